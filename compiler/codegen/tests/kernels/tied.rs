//! Tables that are read row by row and multiplied with: stored once, in panels.

use xlac_codegen::{Options, tied};
use xlac_ir::kernel::Const;
use xlac_ir::tensor::Tensor;
use xlac_ir::text;

use crate::harness::{check_with, fails_with, targets};

const SIZES: &[(&str, i64)] = &[("N", 40)];

/// Something is read from a table, and something multiplied with its rows.
fn program(ty: &str, (rows, width): (usize, usize), read: &str) -> String {
    format!(
        "graph @g(%i: i64[N], %x: {ty}[3, {width}]) -> (%y, %z) {{
  %w = weight @table : {ty}[{rows}, {width}]
  {read}
  %z = matmul %x, %w {{trans_a = false, trans_b = true, out = {ty}}} : {ty}[3, {rows}]
  yield %y, %z
}}
"
    )
}

fn rows_of(ty: &str, width: usize) -> String { format!("%y = gather %w, %i {{axis = 0}} : {ty}[N, {width}]") }

/// Gives the indices all values that count an element of an axis of `rows`, from either end, far apart.
fn spread(rows: usize) -> impl Fn(usize, Tensor) -> Tensor {
    let rows = rows as i64;
    move |input, t| match input {
        0 => Tensor::from_consts(t.dtype, t.shape.clone(), (0..t.len() as i64).map(|k| Const::i64(k * 7919 % (2 * rows) - rows))),
        _ => t,
    }
}

/// Bytes of constant data for each processor, counted in tables.
fn copies(text: &str, (rows, width): (usize, usize)) -> Vec<f64> {
    let program = text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let processors = targets().into_iter().filter(|t| !t.is_gpu());
    let plans = processors.map(|t| xlac_codegen::compile(&program, &t, &Options::default()).unwrap_or_else(|e| panic!("{e}\n{text}")));
    plans.map(|plan| tied::bytes(&plan, &program.weights) as f64 / (rows * width * 4) as f64).collect()
}

/// Panels have lines beyond the last.
fn is_one(copies: &f64) -> bool { (1.0..1.25).contains(copies) }

#[test]
fn tied_tables_are_stored_once() {
    for table in [(301, 64), (256, 65), (1000, 17)] {
        for ty in ["f32", "f16"] {
            let text = program(ty, table, &rows_of(ty, table.1));
            check_with(&text, SIZES, spread(table.0));
            assert!(copies(&text, table).iter().all(is_one), "{:?}\n{text}", copies(&text, table));
        }
    }
}

#[test]
fn columns_of_a_transposed_table_are_its_rows() {
    let table = (301, 64);
    let read = "%t = transpose %w {perm = [1, 0]} : f32[64, 301]\n  %y = gather %t, %i {axis = 1} : f32[64, N]";
    let text = program("f32", table, read);
    check_with(&text, SIZES, spread(table.0));
    assert!(copies(&text, table).iter().all(is_one), "{:?}", copies(&text, table));
}

#[test]
fn rows_that_do_not_exist_are_found() {
    let text = program("f32", (301, 64), &rows_of("f32", 64));
    for index in [301, -302, i64::MAX, i64::MIN] {
        fails_with(&text, SIZES, |input, t| match input {
            0 => Tensor::from_i64(t.shape.clone(), &vec![index; t.len()]),
            _ => t,
        });
    }
}

#[test]
fn other_readers_have_the_table_as_it_is() {
    let table = (301, 64);
    for read in ["%y = abs %w : f32[301, 64]".to_string(), format!("%u = gather %w, %i {{axis = 0}} : f32[N, 64]\n  %v = abs %w : f32[301, 64]\n  %y = concat %u, %v {{axis = 0}} : f32[N + 301, 64]")] {
        let text = program("f32", table, &read);
        check_with(&text, SIZES, spread(table.0));
        assert!(copies(&text, table).iter().all(|&n| n >= 2.0), "{:?}\n{text}", copies(&text, table));
    }
}
