//! Small plans by hand, and kernels for them written in Rust.
#![allow(dead_code, missing_docs)]

use xlac_runtime::plan::*;
use xlac_runtime::{KernelFn, Model};

/// Builds a plan bottom up; ids are those of the plan.
#[derive(Default)]
pub struct Builder {
    pub plan: Plan,
    pub kernels: Vec<KernelFn>,
}

impl Builder {
    pub fn expr(&mut self, expr: Expr) -> ExprId {
        self.plan.exprs.push(expr);
        self.plan.exprs.len() as ExprId - 1
    }

    pub fn int(&mut self, value: i64) -> ExprId {
        self.expr(Expr::Const(value))
    }

    pub fn mul(&mut self, a: ExprId, factor: i64) -> ExprId {
        let factor = self.int(factor);
        self.expr(Expr::Mul(a, factor))
    }

    /// `a / b` rounded up, for a constant `b`.
    pub fn ceil_div(&mut self, a: ExprId, b: i64) -> ExprId {
        let (round, divisor) = (self.int(b - 1), self.int(b));
        let sum = self.expr(Expr::Add(a, round));
        self.expr(Expr::FloorDiv(sum, divisor))
    }

    pub fn symbol(&mut self, name: &str, source: SymbolSource) -> (SymbolId, ExprId) {
        self.plan.symbols.push(Symbol { name: name.into(), source, range: (0, 1 << 20) });
        let id = self.plan.symbols.len() as SymbolId - 1;
        (id, self.expr(Expr::Symbol(id)))
    }

    pub fn input_dim(&mut self, name: &str, input: u32, axis: u32) -> ExprId {
        self.symbol(name, SymbolSource::Input { input, axis }).1
    }

    pub fn buffer(&mut self, storage: Storage, bytes: ExprId) -> BufferId {
        self.plan.buffers.push(Buffer { storage, bytes });
        self.plan.buffers.len() as BufferId - 1
    }

    /// A buffer of `bytes` bytes at a constant offset of the arena.
    pub fn arena(&mut self, offset: i64, bytes: i64) -> BufferId {
        let (offset, bytes) = (self.int(offset), self.int(bytes));
        self.buffer(Storage::Arena(offset), bytes)
    }

    pub fn input(&mut self, name: &str, dtype: DType, shape: &[ExprId], bytes: ExprId) -> BufferId {
        let buffer = self.buffer(Storage::Input(self.plan.inputs.len() as u32), bytes);
        self.plan.inputs.push(TensorDecl { name: name.into(), dtype, shape: shape.to_vec(), buffer });
        buffer
    }

    pub fn output(&mut self, name: &str, dtype: DType, shape: &[ExprId], bytes: ExprId) -> BufferId {
        let buffer = self.buffer(Storage::Output(self.plan.outputs.len() as u32), bytes);
        self.output_from(name, dtype, shape, buffer);
        buffer
    }

    pub fn output_from(&mut self, name: &str, dtype: DType, shape: &[ExprId], buffer: BufferId) {
        self.plan.outputs.push(TensorDecl { name: name.into(), dtype, shape: shape.to_vec(), buffer });
    }

    pub fn kernel(&mut self, name: &str, function: KernelFn) -> KernelId {
        self.kernels.push(function);
        let nodes = vec![format!("{name}_0")];
        self.plan.kernels.push(Kernel { name: name.into(), entry: 0, nodes, block: None });
        self.plan.kernels.len() as KernelId - 1
    }

    pub fn launch(&mut self, kernel: KernelId, tiles: ExprId, buffers: &[BufferId], dims: &[ExprId]) -> Step {
        let (zero, scratch, tile_ns) = (self.int(0), self.int(100), self.int(20_000));
        let buffers = buffers.iter().map(|&buffer| (buffer, zero)).collect();
        let dims = dims.to_vec();
        Step::Launch(Launch { kernel, tiles, buffers, dims, scratch, tile_ns, flops: tiles, traffic: tiles })
    }

    pub fn model(self, weights: &[u8]) -> xlac_runtime::Result<Model> {
        Model::from_plan(self.plan, self.kernels, weights)
    }
}

/// Elements per tile of the elementwise kernels.
pub const TILE: i64 = 16;

/// `c[i] = a[i] + b[i]` for f32; dims: the number of elements.
pub unsafe extern "C" fn add_f32(
    buffers: *const *mut u8,
    dims: *const i64,
    scratch: *mut u8,
    begin: i64,
    end: i64,
) -> i64 {
    // SAFETY: the plans of these tests pass three buffers of `dims[0]` floats and 100 bytes of scratch.
    unsafe {
        assert!(scratch.addr().is_multiple_of(64));
        scratch.add(99).write(1);
        let [a, b, c] = [0, 1, 2].map(|i| (*buffers.add(i)).cast::<f32>());
        for i in begin * TILE..(end * TILE).min(*dims) {
            let i = i as usize;
            c.add(i).write(a.add(i).read() + b.add(i).read());
        }
    }
    0
}

/// `c = a + b` for i64 scalars.
pub unsafe extern "C" fn add_i64(buffers: *const *mut u8, _: *const i64, _: *mut u8, _: i64, _: i64) -> i64 {
    // SAFETY: the plans of these tests pass three buffers of one i64.
    unsafe {
        let [a, b, c] = [0, 1, 2].map(|i| (*buffers.add(i)).cast::<i64>());
        c.write(a.read() + b.read());
    }
    0
}

/// `flag = value < dims[0]` for an i64 scalar and a boolean.
pub unsafe extern "C" fn less(buffers: *const *mut u8, dims: *const i64, _: *mut u8, _: i64, _: i64) -> i64 {
    // SAFETY: the plans of these tests pass one i64, one boolean and one dim.
    unsafe { (*buffers.add(1)).write(u8::from((*buffers).cast::<i64>().read() < *dims)) }
    0
}

/// Gathers `out[i] = x[index[i]]` for f32 and i64; dims: elements of `x`, elements of `index`.
pub unsafe extern "C" fn gather(buffers: *const *mut u8, dims: *const i64, _: *mut u8, begin: i64, end: i64) -> i64 {
    // SAFETY: the plans of these tests pass buffers of these sizes; indices are checked.
    unsafe {
        let (x, index, out) =
            ((*buffers).cast::<f32>(), (*buffers.add(1)).cast::<i64>(), (*buffers.add(2)).cast::<f32>());
        for i in begin * TILE..(end * TILE).min(*dims.add(1)) {
            let at = index.add(i as usize).read();
            if at < 0 || at >= *dims {
                return 1;
            }
            out.add(i as usize).write(x.add(at as usize).read());
        }
    }
    0
}

/// Fails with check 7.
pub unsafe extern "C" fn fail(_: *const *mut u8, _: *const i64, _: *mut u8, _: i64, _: i64) -> i64 {
    7
}

/// `y = (a + b) + b` over inputs `[N]`, through a buffer in the arena.
pub fn add_twice() -> Builder {
    let mut b = Builder::default();
    let n = b.input_dim("N", 0, 0);
    let bytes = b.mul(n, 4);
    let (x, y) = (b.input("a", DType::F32, &[n], bytes), b.input("b", DType::F32, &[n], bytes));
    let z = b.output("y", DType::F32, &[n], bytes);
    let start = b.int(64);
    let sum = b.buffer(Storage::Arena(start), bytes);
    b.plan.arena_bytes = b.expr(Expr::Add(start, bytes));
    let kernel = b.kernel("add", add_f32);
    let tiles = b.ceil_div(n, TILE);
    let steps = vec![b.launch(kernel, tiles, &[x, y, sum], &[n]), b.launch(kernel, tiles, &[sum, y, z], &[n])];
    b.plan.steps = steps;
    b
}

/// Bytes of i64 scalars, each on 64 bytes of its own.
pub fn i64_weights(values: &[i64]) -> Vec<u8> {
    let padded = |value: &i64| {
        let mut bytes = value.to_le_bytes().to_vec();
        bytes.resize(64, 0);
        bytes
    };
    values.iter().flat_map(padded).collect()
}

/// `for i in 0..trips while total < limit { total += i; seen.push(i) }`; outputs `total`, `seen` and the trip count's
/// double through an `If`. Input: `trips`, an i64 scalar.
pub fn counting_loop(limit: i64) -> Builder {
    let mut b = Builder::default();
    let (one, eight, zero) = (b.int(1), b.int(8), b.int(0));
    let trips = b.input("trips", DType::I64, &[], eight);
    let (symbol, trip) = b.symbol("trip", SymbolSource::Step);
    let [counter, old, new] = [b.arena(0, 8), b.arena(64, 8), b.arena(128, 8)];
    let cond = b.arena(192, 1);
    b.plan.arena_bytes = b.int(256);
    let nothing = b.buffer(Storage::Weight(0), eight);
    let seen_bytes = b.mul(trip, 8);
    let seen = b.buffer(Storage::Heap, seen_bytes);
    let total = b.output("total", DType::I64, &[], eight);
    b.output_from("seen", DType::I64, &[trip], seen);
    let (add, test) = (b.kernel("add_i64", add_i64), b.kernel("less", less));
    let limit = b.int(limit);
    let check = b.launch(test, one, &[old, cond], &[limit]);
    let body = vec![
        b.launch(add, one, &[old, counter, new], &[]),
        Step::Append { from: counter, to: seen, offset: seen_bytes, bytes: eight },
        Step::Swap { a: old, b: new },
        check.clone(),
    ];
    let _ = zero;
    b.plan.steps = vec![
        Step::Copy { from: nothing, to: old, bytes: eight },
        check,
        Step::Loop { trips: Some(trips), cond: Some(cond), counter, symbol, body },
        Step::Copy { from: old, to: total, bytes: eight },
    ];
    b
}

/// `index = NonZero(x)`, `y = x[index]` for `x` of shape `[N]`.
pub fn nonzero_gather() -> Builder {
    let mut b = Builder::default();
    let n = b.input_dim("N", 0, 0);
    let (symbol, count) = b.symbol("count", SymbolSource::Step);
    let (one, bytes, index_bytes, out_bytes) = (b.int(1), b.mul(n, 4), b.mul(count, 8), b.mul(count, 4));
    let x = b.input("x", DType::F32, &[n], bytes);
    let (index, out) = (b.buffer(Storage::Heap, index_bytes), b.buffer(Storage::Heap, out_bytes));
    b.output_from("index", DType::I64, &[one, count], index);
    b.output_from("y", DType::F32, &[count], out);
    b.plan.arena_bytes = b.int(0);
    let kernel = b.kernel("gather", gather);
    let tiles = b.ceil_div(count, TILE);
    let launch = b.launch(kernel, tiles, &[x, index, out], &[n, count]);
    let host = Host {
        routine: Routine::NonZero,
        inputs: vec![Operand { buffer: x, dtype: DType::F32, shape: vec![n] }],
        outputs: vec![Operand { buffer: index, dtype: DType::I64, shape: vec![one, count] }],
        binds: vec![symbol],
        nodes: vec!["NonZero_0".into()],
    };
    b.plan.steps = vec![Step::Host(host), launch];
    b
}
