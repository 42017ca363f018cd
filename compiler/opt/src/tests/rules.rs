//! One test for all rules: what each promises is checked on its example.

use std::collections::BTreeSet;

use xlac_ir::graph::Program;
use xlac_ir::random::Random;
use xlac_ir::{text, verify};

use super::{difference, outputs, parse};
use crate::cost::cost;
use crate::pass::PassCx;
use crate::pattern::Pattern;
use crate::report::Report;
use crate::rewrite::{RuleSet, rewrite};
use crate::rule::{Into, Kind, Rule};
use crate::rules::RULES;
use crate::{Numerics, Options, misses, passes};

/// The program after some rules and dead code removal, and how often each rule was applied.
fn rewritten(program: &Program, rules: Vec<&'static Rule>) -> (Program, Report) {
    let mut after = program.clone();
    let options = Options::default();
    let mut report = Report::default();
    let mut cx = PassCx::new(&options, &mut report, &after);
    rewrite(&mut after, &RuleSet::new(rules), &mut cx).unwrap();
    (passes::dce::PASS.run)(&mut after, &mut cx).unwrap();
    (after, report)
}

#[test]
fn every_example_keeps_its_promises() {
    for rule in RULES {
        let before = parse(rule.example);
        let (after, report) = rewritten(&before, vec![rule]);
        let shown = text::print(&after);
        assert!(report.rules.contains_key(rule.name), "`{}` does not match its example", rule.name);
        verify::verify(&after).unwrap_or_else(|e| panic!("`{}`: {e:?}\n{shown}", rule.name));
        assert!(cost(&after) <= cost(&before), "`{}` raises the cost of its example\n{shown}", rule.name);
        let tolerance = (rule.kind != Kind::Exact).then_some(1e-5);
        // Rounding may turn infinities into NaN: such rules are held to ordinary data.
        let seeds = (1..13).filter(|s| rule.kind == Kind::Exact || s % 3 != 0);
        for seed in seeds {
            let (a, b) = (outputs(&before, &before, seed).unwrap(), outputs(&after, &before, seed).unwrap());
            let found = difference(&a, &b, tolerance);
            assert_eq!(found, None, "`{}` changes the result of its example\n{shown}", rule.name);
        }
        let (again, report) = rewritten(&after, vec![rule]);
        assert!(report.rules.is_empty(), "`{}` applies to its own result\n{}", rule.name, text::print(&again));
    }
}

#[test]
fn the_order_of_the_list_does_not_matter() {
    let all: Vec<&'static Rule> = RULES.to_vec();
    for seed in 0..3 {
        let mut shuffled = all.clone();
        let mut random = Random::new(seed);
        (1..shuffled.len()).for_each(|i| shuffled.swap(i, random.below(i + 1)));
        for rule in RULES {
            let before = parse(rule.example);
            let (a, b) = (rewritten(&before, all.clone()).0, rewritten(&before, shuffled.clone()).0);
            assert_eq!(text::print(&a), text::print(&b), "`{}`", rule.name);
        }
    }
}

#[test]
fn patterns_and_texts_are_sound() {
    for rule in RULES {
        let from = Pattern::parse(rule.from).unwrap_or_else(|e| panic!("`{}`: {e}", rule.name));
        assert!(matches!(from, Pattern::Node { .. }), "`{}` starts with no op", rule.name);
        if let Into::Text(text) = rule.into {
            let into = Pattern::parse(text).unwrap_or_else(|e| panic!("`{}`: {e}", rule.name));
            let bound: BTreeSet<_> = from.variables().into_iter().collect();
            let unbound: Vec<_> = into.variables().into_iter().filter(|v| !bound.contains(v)).collect();
            assert!(unbound.is_empty(), "`{}` does not bind {unbound:?}", rule.name);
        }
        let group = rule.name.split_once('/').unwrap().0;
        let kind = match group {
            "canon" => Kind::Exact,
            "fast" => Kind::Fast,
            _ => Kind::Fold,
        };
        assert_eq!(kind, rule.kind, "`{}` is in the wrong group", rule.name);
    }
}

#[test]
fn the_list_is_current() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/rules");
    let mut files = BTreeSet::new();
    for group in ["canon", "fast", "fold"] {
        for entry in std::fs::read_dir(format!("{folder}/{group}")).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            files.insert(format!("{group}/{}", file.trim_end_matches(".rs")));
        }
    }
    let listed: Vec<String> = RULES.iter().map(|r| r.name.to_string()).collect();
    assert_eq!(listed, files.into_iter().collect::<Vec<_>>(), "rules.rs lists other rules than src/rules holds");
}

#[test]
fn misses_have_reasons() {
    let program = parse(
        "graph @g(%x: f32[2, 3]) -> (%r) {
           %c = constant {dtype = f32, shape = [], bits = [1077936128]} : f32[]
           %y = div %x, %c : f32[2, 3]  // Div_0
           %z = exp %x : f32[2, 3]
           %s = div %z, %x : f32[2, 3]  // Div_1
           yield %s
         }",
    );
    let found = misses(&program, "canon/div_power_of_two", Numerics::Exact).unwrap();
    // `%y` is dead; `Div_1` has no constant.
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].node, &*found[0].reason), ("Div_1", "its operands do not look like `(div ?x #c)`"));
    assert!(misses(&program, "canon/nothing", Numerics::Exact).is_err());
}

/// Operands of an op on a view are viewed back: along any axis the view keeps, or whole.
#[test]
fn operands_are_viewed_back() {
    let rule = RULES.iter().find(|r| r.name == "canon/view_later").expect("the rule");
    let conv = "conv %x, %w {strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], groups = 1, out = f32} : f32[2, 3, 1, 4]";
    let squeeze = ("reshape %p {shape = [2, 3, 4]}", "2, 3, 4");
    let turn = ("transpose %p {perm = [3, 0, 2, 1]}", "4, 2, 1, 3");
    let merge = ("reshape %p {shape = [2, 12]}", "2, 12");
    for ((view, shape), c, fits) in [
        (squeeze, "3, 1", true),
        (squeeze, "2, 1, 4", true),
        (squeeze, "2, 3, 4", true),
        (turn, "3", true),
        (turn, "4, 1, 1, 3", true),
        (turn, "1, 2, 1, 1", true),
        (merge, "1, 1", true),
        (merge, "2, 12", true),
        (merge, "2, 1", false),
        (merge, "12", false),
    ] {
        let text = format!(
            "graph @g(%x: f32[2, 2, 1, 4], %w: f32[3, 2, 1, 1], %c: f32[{c}]) -> (%r) {{
              %p = {conv}
              %v = {view} : f32[{shape}]
              %y = sub %c, %v : f32[{shape}]
              yield %y
            }}"
        );
        let before = parse(&text);
        let (after, report) = rewritten(&before, vec![rule]);
        assert_eq!(report.rules.contains_key(rule.name), fits, "{view} with an operand of {c}");
        verify::verify(&after).unwrap_or_else(|e| panic!("{e:?}\n{}", text::print(&after)));
        let (a, b) = (outputs(&before, &before, 5).unwrap(), outputs(&after, &before, 5).unwrap());
        assert_eq!(difference(&a, &b, None), None, "{}", text::print(&after));
    }
}

/// Of two convolutions' results only the one that is made from the other takes in an op on a view of it.
#[test]
fn views_of_two_windows_come_to_an_end() {
    let rule = RULES.iter().find(|r| r.name == "canon/view_later").expect("the rule");
    let pool = "{f = max, kernel = [1, 1], strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], sizes = [1, 4]} : f32[2, 3, 1, 4]";
    for (other, fits) in [("%b", false), ("%a", true)] {
        let text = format!(
            "graph @g(%x: f32[2, 3, 1, 4], %z: f32[2, 3, 1, 4]) -> (%r) {{
              %a = pool %x {pool}
              %b = pool %z {pool}
              %o = reshape %a {{shape = [2, 3, 4]}} : f32[2, 3, 4]
              %n = pool %o {{f = max, kernel = [1], strides = [1], before = [0], after = [0], dilations = [1], sizes = [4]}} : f32[2, 3, 4]
              %t = reshape %n {{shape = [2, 3, 1, 4]}} : f32[2, 3, 1, 4]
              %y = sub {other}, %t : f32[2, 3, 1, 4]
              yield %y
            }}"
        );
        let before = parse(&text);
        let (after, report) = rewritten(&before, vec![rule]);
        assert_eq!(report.rules.contains_key(rule.name), fits, "{}", text::print(&after));
    }
}

#[test]
fn rewritten_examples() {
    for rule in RULES {
        let before = parse(rule.example);
        let (after, _) = rewritten(&before, vec![rule]);
        let shown = format!("{}\n---- becomes ----\n{}", text::print(&before), text::print(&after));
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots/rules" }, {
            insta::assert_snapshot!(rule.name.replace('/', "__"), shown);
        });
    }
}
