//! Kernels that measure a processor instead of computing something: its fastest multiply-adds and its fastest reading.
//!
//! They are built in kernel IR like any other, so that what they measure is what the same backend can reach at best.

use xlac_ir::DType;
use xlac_ir::backend::Target;
use xlac_ir::dim::Dim;
use xlac_ir::graph::Loc;
use xlac_ir::kernel::{Buf, Const, LoopHint, Val};
use xlac_ir::types::Type;

use crate::kb::{Kb, Place};
use crate::plan::{Buffer, BufferId, Io, Launch, Plan, Step, Storage};
use crate::view::View;

/// Name of the kernel of multiply-adds.
pub const PEAK: &str = "peak";
/// Name of the kernel that reads memory.
pub const READ: &str = "read";

/// Trips of the loop of multiply-adds in a tile.
const TRIPS: i64 = 1 << 18;
/// Bytes a tile reads.
pub const PIECE: i64 = 4 << 20;
/// Multiply-adds that may be under way at once: the latency times the rate of today's processors, with some to spare.
const CHAINS: u32 = 12;

/// A plan of three launches: one that writes `bytes` of memory, and the kernels [`PEAK`] and [`READ`], cut in at least `tiles`
/// tiles each. Its input is an f32 of 2 elements, a factor and a summand; its output holds a vector of sums for each tile.
pub fn plan(target: &Target, bytes: i64, tiles: i64) -> Plan {
    let lanes = target.lanes(DType::F32);
    let pieces = (bytes / PIECE).max(tiles);
    let mut p = Plan::default();
    let mut buffer = |storage: Storage, bytes: i64| {
        p.buffers.push(Buffer { storage, bytes: Dim::from(bytes) });
        BufferId(p.buffers.len() as u32 - 1)
    };
    let input = buffer(Storage::Input(0), 8);
    let sums = pieces.max(tiles) * i64::from(lanes);
    let output = buffer(Storage::Output(0), 4 * sums);
    let memory = buffer(Storage::Arena(Dim::ZERO), pieces * PIECE);
    p.arena = Dim::from(pieces * PIECE);
    let io = |name: &str, n: i64, buffer| Io { name: name.into(), ty: Type::new(DType::F32, vec![Dim::from(n)]), buffer };
    p.inputs.push(io("x", 2, input));
    p.outputs.push(io("y", sums, output));
    let place = |buffer| Place { buffer, view: View { offset: Dim::ZERO, strides: Vec::new() }, dtype: DType::F32 };
    let (x, y, m) = (place(input), place(output), place(memory));
    launch(&mut p, fill(&m, lanes), pieces, (0, PIECE));
    launch(&mut p, peak(&x, &y, lanes, target.vector_registers), tiles, (2 * TRIPS * i64::from(chains(target.vector_registers) * lanes), 0));
    launch(&mut p, read(&m, &y, lanes), pieces, (0, PIECE));
    p
}

fn chains(registers: u32) -> u32 { CHAINS.min(registers - 4) }

fn launch(p: &mut Plan, kb: Kb, tiles: i64, (flops, bytes): (i64, i64)) {
    let done = kb.finish();
    p.steps.push(Step::Launch(Launch {
        kernel: p.kernels.len(),
        tiles: Dim::from(tiles),
        buffers: done.buffers,
        dims: done.dims,
        scratch: done.scratch,
        tile_ns: Dim::from(1_000_000i64),
        flops: Dim::from(flops * tiles),
        traffic: Dim::from(bytes * tiles),
        loc: Loc::default(),
    }));
    p.kernels.push(done.kernel);
}

/// The first element of this tile's piece, and the loop over its vectors, `ways` at a time.
fn piece(kb: &mut Kb, lanes: u32, ways: i64, init: &[Val], body: impl Fn(&mut Kb, Val, &[Val]) -> Vec<Val>) -> Vec<Val> {
    let tile = kb.k.tile();
    let from = kb.k.mul_int(tile, PIECE / 4);
    let to = kb.k.add_int(from, PIECE / 4);
    let open = kb.k.begin_for((from, to, ways * i64::from(lanes)), init, LoopHint::Plain);
    let next = body(kb, open.var, &open.phis.clone());
    kb.k.end_for(open, &next)
}

fn fill(memory: &Place, lanes: u32) -> Kb {
    let mut kb = Kb::new("write");
    let to = kb.write(memory);
    let one = kb.k.splat_const(Const::f32(1.0), lanes);
    piece(&mut kb, lanes, 1, &[], |kb, at, _| {
        kb.k.store(to, at, 0, one, None);
        Vec::new()
    });
    kb
}

/// Independent chains of multiply-adds in registers.
fn peak(x: &Place, y: &Place, lanes: u32, registers: u32) -> Kb {
    let mut kb = Kb::new(PEAK);
    let (x, y) = (kb.read(x), kb.write(y));
    let zero = kb.k.int(0);
    let factor = kb.k.load(x, zero, 0, 1, None);
    let factor = kb.k.widen(factor, lanes);
    let summand = kb.k.load(x, zero, 1, 1, None);
    let summand = kb.k.widen(summand, lanes);
    let init: Vec<Val> = (0..chains(registers)).map(|i| kb.k.splat_const(Const::f32(i as f32), lanes)).collect();
    let trips = kb.k.int(TRIPS);
    let open = kb.k.begin_for((zero, trips, 1), &init, LoopHint::Unroll(4));
    let next: Vec<Val> = open.phis.clone().into_iter().map(|acc| kb.k.fma(acc, factor, summand)).collect();
    let sums = kb.k.end_for(open, &next);
    store_sum(&mut kb, y, &sums);
    kb
}

/// Sums of a piece of memory, from several places at once.
fn read(memory: &Place, y: &Place, lanes: u32) -> Kb {
    const WAYS: i64 = 8;
    let mut kb = Kb::new(READ);
    let (from, y) = (kb.read(memory), kb.write(y));
    let init = vec![kb.k.splat_const(Const::f32(0.0), lanes); WAYS as usize];
    let sums = piece(&mut kb, lanes, WAYS, &init, |kb, at, sums| {
        let add = |(way, &sum): (i64, &Val)| {
            let x = kb.k.load(from, at, way * i64::from(lanes), lanes, None);
            kb.k.add(sum, x)
        };
        (0..).zip(sums).map(add).collect()
    });
    store_sum(&mut kb, y, &sums);
    kb
}

/// Keeps a tile's results, so that computing them is not left out.
fn store_sum(kb: &mut Kb, y: Buf, sums: &[Val]) {
    let tile = kb.k.tile();
    let at = kb.k.mul_int(tile, i64::from(kb.k.ty(sums[0]).lanes));
    let sum = sums[1..].iter().fold(sums[0], |a, &b| kb.k.add(a, b));
    kb.k.store(y, at, 0, sum, None);
}
