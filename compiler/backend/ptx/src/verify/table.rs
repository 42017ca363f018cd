//! The table of instructions: what they take, and the least target and version that has them.
//!
//! A row names instructions, `{a|b}` standing for either, and their operands. Letters are classes of registers: `p`
//! predicate, `h` 16 bits, `r` 32, `d` 64, `f` f32, `e` f64, `x` 32 bits of either kind, `y` 64; what is read may be a
//! constant of that kind too. `4r` is a group of four. `m` is memory, `i` a constant, `n` a name, `l` a label. What stands
//! before `=` is written.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Level;
use super::parse::Operand;
use crate::asm::Class;

/// PTX 7.0 on sm_80: everything until now.
const BASE: Level = super::FLOOR;

const ROWS: &[(&str, &str, Level)] = &[
    // Moves.
    ("mov.pred", "p = p | p = i", BASE),
    ("mov.b16", "h = h", BASE),
    ("mov.b32", "x = x | x = 2h | 2h = x", BASE),
    ("mov.b64", "y = y | y = 2r | 2r = y", BASE),
    ("mov.f32", "f = f", BASE),
    ("mov.f64", "e = e", BASE),
    ("mov.u32", "r = n", BASE),
    ("selp.b16", "h = h, h, p", BASE),
    ("selp.b32", "r = r, r, p", BASE),
    ("selp.b64", "d = d, d, p", BASE),
    ("selp.f32", "f = f, f, p", BASE),
    ("selp.f64", "e = e, e, p", BASE),
    ("prmt.b32", "r = r, r, i", BASE),
    // Memory.
    ("ld.param.{u64|s64}", "d = m", BASE),
    ("ld.{global|global.nc|shared|local}.{u8|s8|u16|s16|b32}", "r = m", BASE),
    ("ld.{global|global.nc|shared|local}.b16", "h = m", BASE),
    ("ld.{global|global.nc|shared|local}.b64", "d = m", BASE),
    ("ld.{global|global.nc|shared|local}.f32", "f = m", BASE),
    ("ld.{global|global.nc|shared|local}.f64", "e = m", BASE),
    ("ld.{global|global.nc|shared|local}.v2.b32", "2r = m", BASE),
    ("ld.{global|global.nc|shared|local}.v2.b64", "2d = m", BASE),
    ("ld.{global|global.nc|shared|local}.v2.f32", "2f = m", BASE),
    ("ld.{global|global.nc|shared|local}.v2.f64", "2e = m", BASE),
    ("ld.{global|global.nc|shared|local}.v4.b32", "4r = m", BASE),
    ("ld.{global|global.nc|shared|local}.v4.f32", "4f = m", BASE),
    ("st.{global|shared|local}.{u8|u16|b32}", "= m, r", BASE),
    ("st.{global|shared|local}.b16", "= m, h", BASE),
    ("st.{global|shared|local}.b64", "= m, d", BASE),
    ("st.{global|shared|local}.f32", "= m, f", BASE),
    ("st.{global|shared|local}.f64", "= m, e", BASE),
    ("st.{global|shared|local}.v2.b32", "= m, 2r", BASE),
    ("st.{global|shared|local}.v2.b64", "= m, 2d", BASE),
    ("st.{global|shared|local}.v2.f32", "= m, 2f", BASE),
    ("st.{global|shared|local}.v2.f64", "= m, 2e", BASE),
    ("st.{global|shared|local}.v4.b32", "= m, 4r", BASE),
    ("st.{global|shared|local}.v4.f32", "= m, 4f", BASE),
    // Integers.
    ("{add|sub|mul.lo|min|max}.s32", "r = r, r", BASE),
    ("{add|sub|mul.lo|min|max}.s64", "d = d, d", BASE),
    ("{min|max}.u32", "r = r, r", BASE),
    ("{min|max}.u64", "d = d, d", BASE),
    ("{div|rem}.{s32|u32}", "r = r, r", BASE),
    ("{div|rem}.{s64|u64}", "d = d, d", BASE),
    ("mad.lo.s32", "r = r, r, r", BASE),
    ("mad.lo.s64", "d = d, d, d", BASE),
    ("mul.wide.s32", "d = r, r", BASE),
    ("mad.wide.s32", "d = r, r, d", BASE),
    ("neg.s32", "r = r", BASE),
    ("neg.s64", "d = d", BASE),
    ("{and|or|xor}.pred", "p = p, p", BASE),
    ("not.pred", "p = p", BASE),
    ("{and|xor}.b16", "h = h, h", BASE),
    ("{and|or|xor}.b32", "r = r, r", BASE),
    ("{and|or|xor}.b64", "d = d, d", BASE),
    ("not.b32", "r = r", BASE),
    ("not.b64", "d = d", BASE),
    ("{shl.b32|shr.s32|shr.u32}", "r = r, r", BASE),
    ("{shl.b64|shr.s64|shr.u64}", "d = d, r", BASE),
    ("bfe.{s32|u32}", "r = r, r, r", BASE),
    // Floats.
    ("{add|sub|mul|div}.rn.f32", "f = f, f", BASE),
    ("{add|sub|mul|div}.rn.f64", "e = e, e", BASE),
    ("{min|max}.NaN.f32", "f = f, f", BASE),
    ("fma.rn.f32", "f = f, f, f", BASE),
    ("fma.rn.f64", "e = e, e, e", BASE),
    ("{neg.f32|abs.f32|sqrt.rn.f32}", "f = f", BASE),
    ("{neg.f64|abs.f64|sqrt.rn.f64}", "e = e", BASE),
    // Comparisons.
    ("setp.{eq|ne|lt|le|gt|ge}.{s32|u32}", "p = r, r", BASE),
    ("setp.{eq|ne|lt|le|gt|ge}.{s64|u64}", "p = d, d", BASE),
    ("setp.{eq|neu|lt|le|gt|ge|nan}.f32", "p = f, f", BASE),
    ("setp.{eq|neu|lt|le|gt|ge|nan}.f64", "p = e, e", BASE),
    ("setp.{eq|gt}.and.s32", "p = r, r, p", BASE),
    ("setp.eq.and.s64", "p = d, d, p", BASE),
    ("setp.{lt|gt}.or.f32", "p = f, f, p", BASE),
    ("setp.{lt|gt}.or.f64", "p = e, e, p", BASE),
    // Conversions.
    ("cvt.{s32.s8|s32.s16}", "r = r", BASE),
    ("cvt.u32.u16", "r = h", BASE),
    ("cvt.u16.u32", "h = r", BASE),
    ("cvt.u32.u64", "r = d", BASE),
    ("cvt.{s64.s32|u64.u32}", "d = r", BASE),
    ("cvt.{rmi|rpi|rzi|rni}.f32.f32", "f = f", BASE),
    ("cvt.{rmi|rpi|rzi|rni}.f64.f64", "e = e", BASE),
    ("cvt.rzi.{s32|u32}.f32", "r = f", BASE),
    ("cvt.rzi.{s64|u64}.f32", "d = f", BASE),
    ("cvt.rzi.{s32|u32}.f64", "r = e", BASE),
    ("cvt.rzi.{s64|u64}.f64", "d = e", BASE),
    ("cvt.rn.f32.{s32|u32}", "f = r", BASE),
    ("cvt.rn.f32.{s64|u64}", "f = d", BASE),
    ("cvt.rn.f64.{s32|u32}", "e = r", BASE),
    ("cvt.rn.f64.{s64|u64}", "e = d", BASE),
    ("cvt.{rn|rz}.f32.f64", "f = e", BASE),
    ("cvt.f64.f32", "e = f", BASE),
    ("cvt.f32.f16", "f = h", BASE),
    ("cvt.rn.{f16|bf16}.f32", "h = f", BASE),
    ("cvt.rn.f16.f64", "h = e", BASE),
    ("cvt.rn.{f16x2|bf16x2}.f32", "r = f, f", BASE),
    // Warps and blocks.
    ("shfl.sync.{bfly|down|idx}.b32", "x = x, i, i, i", BASE),
    ("mma.sync.aligned.m16n8k16.row.col.f32.{f16.f16|bf16.bf16}.f32", "4f = 4r, 2r, 4f", BASE),
    ("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", "4f = 4r, 2r, 4f", BASE),
    ("mma.sync.aligned.m16n8k32.row.col.s32.{s8|u8}.{s8|u8}.s32", "4r = 4r, 2r, 4r", BASE),
    ("ldmatrix.sync.aligned.m8n8.x1{|.trans}.shared.b16", "1r = m", BASE),
    ("ldmatrix.sync.aligned.m8n8.x2{|.trans}.shared.b16", "2r = m", BASE),
    ("ldmatrix.sync.aligned.m8n8.x4{|.trans}.shared.b16", "4r = m", BASE),
    ("cp.async.{ca|cg}.shared.global", "= m, m, i | = m, m, i, r", BASE),
    ("cp.async.commit_group", "=", BASE),
    ("cp.async.wait_group", "= i", BASE),
    ("bar.sync", "= i", BASE),
    // Control.
    ("bra", "= l", BASE),
    ("ret", "=", BASE),
];

/// A row for one instruction.
pub struct Row {
    /// What it takes, in words.
    pub text: &'static str,
    pub signatures: Vec<Signature>,
    pub level: Level,
}

/// Operands an instruction may have.
pub struct Signature {
    defs: usize,
    operands: Vec<(usize, char)>,
}

/// The row of an instruction.
pub fn find(name: &str) -> Option<&'static Row> {
    static TABLE: OnceLock<HashMap<String, Row>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut table = HashMap::new();
        for &(names, text, level) in ROWS {
            for name in expand(names) {
                let signatures = text.split('|').map(signature).collect();
                table.insert(name, Row { text, signatures, level });
            }
        }
        table
    });
    table.get(name)
}

/// Every name a pattern stands for.
fn expand(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else { return vec![pattern.into()] };
    let (choices, after) = rest.split_once('}').expect("braces are paired");
    let tails = expand(after);
    choices.split('|').flat_map(|c| tails.iter().map(move |t| format!("{before}{c}{t}"))).collect()
}

fn signature(text: &str) -> Signature {
    let (left, right) = text.split_once('=').expect("a signature has two sides");
    let list = |side: &str| -> Vec<(usize, char)> {
        let each = side.split(',').map(str::trim).filter(|s| !s.is_empty());
        each.map(|s| {
            let kind = s.chars().last().expect("it is not empty");
            (s[..s.len() - 1].parse().unwrap_or(0), kind)
        })
        .collect()
    };
    let (defs, uses) = (list(left), list(right));
    Signature { defs: defs.len(), operands: [defs, uses].concat() }
}

impl Row {
    /// How many of these operands are written.
    pub fn defs(&self, operands: &[Operand]) -> usize {
        self.signatures.iter().find(|s| s.fits(operands)).map_or(0, |s| s.defs)
    }
}

impl Signature {
    /// True if these operands are of the kinds it says.
    pub fn fits(&self, operands: &[Operand]) -> bool {
        let one = |i: usize, (group, kind): (usize, char), o: &Operand| match o {
            Operand::Group(regs) => group > 0 && regs.len() == group && regs.iter().all(|r| is(kind, r.class)),
            _ if group > 0 => false,
            Operand::Register(r) => is(kind, r.class),
            Operand::Integer => kind == 'i' || (i >= self.defs && matches!(kind, 'h' | 'r' | 'd' | 'x' | 'y')),
            Operand::Float => i >= self.defs && matches!(kind, 'f' | 'x'),
            Operand::Double => i >= self.defs && matches!(kind, 'e' | 'y'),
            Operand::Memory(r) => kind == 'm' && matches!(r.class, Class::B32 | Class::B64),
            Operand::Symbol(_) => kind == 'm',
            Operand::Name(_) => matches!(kind, 'n' | 'l'),
        };
        self.operands.len() == operands.len()
            && operands.iter().zip(&self.operands).enumerate().all(|(i, (o, &k))| one(i, k, o))
    }
}

fn is(kind: char, class: Class) -> bool {
    match class {
        Class::Pred => kind == 'p',
        Class::B16 => kind == 'h',
        Class::B32 => matches!(kind, 'r' | 'x'),
        Class::B64 => matches!(kind, 'd' | 'y'),
        Class::F32 => matches!(kind, 'f' | 'x'),
        Class::F64 => matches!(kind, 'e' | 'y'),
    }
}
