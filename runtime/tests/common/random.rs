//! A generator of plans without kernels.
#![allow(dead_code, missing_docs)]

use xlac_runtime::plan::*;

/// Small, seeded, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }

    fn id(&mut self, limit: usize) -> u32 {
        self.below(limit) as u32
    }

    /// One of the first expressions, or any.
    fn expr(&mut self, usual: &[ExprId]) -> ExprId {
        let any = self.id(EXPRS);
        if self.below(usual.len() + 1) == 0 { any } else { self.pick(usual) }
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

const EXPRS: usize = 24;
const BUFFERS: usize = 10;
const SYMBOLS: usize = 4;

/// A plan that is refused, fails or runs.
pub fn random_plan(r: &mut Random) -> Plan {
    let symbol = |id: u32| Symbol {
        name: format!("s{id}"),
        source: if id == 0 { SymbolSource::Input { input: 0, axis: 0 } } else { SymbolSource::Step },
        range: (0, 100),
    };
    let mut exprs = vec![Expr::Symbol(0), Expr::Const(8), Expr::Const(0), Expr::Mul(0, 1)];
    while exprs.len() < EXPRS {
        let (a, b) = (r.id(exprs.len()), r.id(exprs.len()));
        exprs.push(match r.below(9) {
            0 | 1 => Expr::Const(r.pick(&[-1, 1, 2, 3, 16, 64, 128, 1 << 40])),
            2 => Expr::Symbol(r.id(SYMBOLS)),
            3 => Expr::Add(a, b),
            4 => Expr::Mul(a, b),
            5 => Expr::FloorDiv(a, b),
            6 => Expr::Mod(a, b),
            7 => Expr::Min(a, b),
            _ => Expr::Max(a, b),
        });
    }
    let arena = exprs.len() as ExprId;
    exprs.extend([Expr::Const(1024), Expr::Const(64), Expr::Const(512)]);
    let mut buffers = vec![
        Buffer { storage: Storage::Input(0), bytes: 3 },
        Buffer { storage: Storage::Output(0), bytes: 3 },
        Buffer { storage: Storage::Weight(0), bytes: 1 },
    ];
    while buffers.len() < BUFFERS {
        let storage = r.pick(&[Storage::Heap, Storage::Arena(arena + 1), Storage::Arena(arena + 2), Storage::Arena(2)]);
        buffers.push(Buffer { storage, bytes: r.expr(&[1, 1, 3]) });
    }
    let decl =
        |name: &str, shape: Vec<ExprId>, buffer| TensorDecl { name: name.into(), dtype: DType::I64, shape, buffer };
    let odd_shape: Vec<ExprId> = (0..r.below(3)).map(|_| r.id(EXPRS)).collect();
    Plan {
        symbols: (0..SYMBOLS as u32).map(symbol).collect(),
        exprs,
        constraints: vec![],
        inputs: vec![decl("x", vec![0], 0)],
        outputs: vec![decl("y", vec![0], 1), decl("z", odd_shape, 2 + r.id(BUFFERS - 2))],
        buffers,
        arena_bytes: arena,
        kernels: vec![],
        steps: random_steps(r, 0),
    }
}

fn random_steps(r: &mut Random, depth: usize) -> Vec<Step> {
    let count = r.below(if depth == 0 { 8 } else { 4 });
    (0..count).map(|_| random_step(r, depth)).collect()
}

fn random_step(r: &mut Random, depth: usize) -> Step {
    let (a, b) = (r.id(BUFFERS), r.id(BUFFERS));
    let (expr, other) = (r.expr(&[1, 2, 3]), r.expr(&[1, 2, 3]));
    let symbol = 1 + r.id(SYMBOLS - 1);
    match r.below(if depth < 3 { 10 } else { 7 }) {
        0 => Step::Copy { from: a, to: b, bytes: expr },
        1 => Step::Bind { symbol, from: a, index: r.id(3) },
        2 | 3 => Step::Set { symbol, value: expr },
        4 => Step::Swap { a, b },
        5 => Step::Append { from: a, to: b, offset: expr, bytes: other },
        6 | 7 => Step::Host(random_host(r)),
        8 => Step::If { cond: a, then_steps: random_steps(r, depth + 1), else_steps: random_steps(r, depth + 1) },
        _ => Step::Loop {
            trips: Some(2).filter(|_| r.below(4) > 0),
            cond: Some(a).filter(|_| r.below(3) == 0),
            counter: b,
            symbol,
            body: random_steps(r, depth + 1),
        },
    }
}

fn random_host(r: &mut Random) -> Host {
    const DTYPES: [DType; 5] = [DType::I64, DType::F32, DType::F16, DType::U8, DType::F64];
    let dtype = r.pick(&DTYPES);
    let operand = |r: &mut Random, rank: usize, dtype| Operand {
        buffer: r.id(BUFFERS),
        dtype,
        shape: (0..rank).map(|_| r.expr(&[0, 1, 2])).collect(),
    };
    let rank = r.below(3);
    let x = operand(r, rank, dtype);
    let (routine, outputs, binds) = if r.below(2) == 0 {
        let mut values = operand(r, rank, dtype);
        values.shape.clone_from(&x.shape);
        let mut indices = values.clone();
        (indices.buffer, indices.dtype) = (r.id(BUFFERS), DType::I64);
        (Routine::TopK { axis: 0, largest: r.below(2) == 0 }, vec![values, indices], vec![])
    } else {
        (Routine::NonZero, vec![operand(r, 2, DType::I64)], vec![1 + r.id(SYMBOLS - 1)])
    };
    Host { routine, inputs: vec![x], outputs, binds, nodes: vec![] }
}
