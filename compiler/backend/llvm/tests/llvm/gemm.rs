//! Matrix-multiply microkernels as the templates build them.

#![allow(dead_code, reason = "the example uses more than the tests")]

use xlac_ir::DType;
use xlac_ir::kernel::*;

/// Where the left matrix lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Left {
    /// Packed: `a[k * rows + row]`.
    Packed,
    /// Row-major with a constant distance between rows.
    Rows(i64),
    /// Row-major with a distance known at run time.
    DimRows,
}

/// `c[row, :] += a[row, k] * b[k, :]` for a tile of `rows` by `vectors * lanes`; `b` is packed in panels, one a tile.
pub fn microkernel(left: Left, rows: i64, vectors: i64, lanes: u32) -> Kernel {
    let mut k = KernelBuilder::new("gemm");
    let a = k.param("a", DType::F32, Access::Read);
    let b = k.param("b", DType::F32, Access::Read);
    let c = k.param("c", DType::F32, Access::ReadWrite);
    let depth = k.dim("depth");
    let lda = k.dim("lda");
    let width = vectors * i64::from(lanes);
    let tile = k.tile();
    let panel = k.mul(tile, depth);
    let panel = k.mul_int(panel, width);
    let block = k.mul_int(tile, rows * width);
    let starts: Vec<Val> = (0..rows).map(|r| k.mul_int(lda, r)).collect();
    let mut init = Vec::new();
    for r in 0..rows {
        for v in 0..vectors {
            init.push(k.load(c, block, r * width + v * i64::from(lanes), lanes, None));
        }
    }
    let zero = k.int(0);
    let sums = k.for_carry((zero, depth, 1), &init, LoopHint::Plain, |k, i, acc| {
        let at = k.mul_int(i, width);
        let at = k.add(panel, at);
        let bs: Vec<Val> = (0..vectors).map(|v| k.load(b, at, v * i64::from(lanes), lanes, None)).collect();
        let packed = k.mul_int(i, rows);
        let mut next = Vec::new();
        for r in 0..rows {
            let x = match left {
                Left::Packed => k.load(a, packed, r, 1, None),
                Left::Rows(lda) => k.load(a, i, r * lda, 1, None),
                Left::DimRows => {
                    let at = k.add(starts[r as usize], i);
                    k.load(a, at, 0, 1, None)
                }
            };
            let x = k.widen(x, lanes);
            for v in 0..vectors as usize {
                next.push(k.fma(x, bs[v], acc[r as usize * vectors as usize + v]));
            }
        }
        next
    });
    for r in 0..rows {
        for v in 0..vectors {
            let value = sums[(r * vectors + v) as usize];
            k.store(c, block, r * width + v * i64::from(lanes), value, None);
        }
    }
    k.finish()
}

/// Nothing but multiply-adds in registers: the machine's peak.
pub fn peak(lanes: u32, chains: usize) -> Kernel {
    let mut k = KernelBuilder::new("peak");
    let c = k.param("c", DType::F32, Access::ReadWrite);
    let depth = k.dim("depth");
    let zero = k.int(0);
    let x = k.load(c, zero, 0, lanes, None);
    let y = k.load(c, zero, i64::from(lanes), lanes, None);
    let init: Vec<Val> = (0..chains).map(|i| k.load(c, zero, i as i64 * i64::from(lanes), lanes, None)).collect();
    let sums = k.for_carry((zero, depth, 1), &init, LoopHint::Plain, |k, _, acc| {
        acc.iter().map(|&a| k.fma(x, y, a)).collect()
    });
    for (i, s) in sums.into_iter().enumerate() {
        k.store(c, zero, i as i64 * i64::from(lanes), s, None);
    }
    k.finish()
}

/// The kernels of a network, roughly: for every register tile up to 14 by 2 a multiply over three loops with bias,
/// residual and activation, partial at the right edge.
pub fn network(lanes: u32, max_rows: i64, tiles: usize) -> Vec<Kernel> {
    (0..tiles).map(|i| layer(format!("layer{i}"), max_rows - i as i64 % 4, 2, lanes, 1 + i as i64 % 3)).collect()
}

fn layer(name: String, rows: i64, vectors: i64, lanes: u32, taps: i64) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let a = k.param("a", DType::F32, Access::Read);
    let b = k.param("b", DType::F32, Access::Read);
    let bias = k.param("bias", DType::F32, Access::Read);
    let residual = k.param("residual", DType::F32, Access::Read);
    let c = k.param("c", DType::F32, Access::Write);
    let channels = k.dim("channels");
    let columns = k.dim("columns");
    let stride = k.dim("stride");
    let width = vectors * i64::from(lanes);
    let tile = k.tile();
    let at = k.mul_int(tile, width);
    let left = k.sub(columns, at);
    let (zero, n) = (k.int(0), k.int(taps));
    let mut init = Vec::new();
    for v in 0..vectors {
        let x = k.load(bias, at, v * i64::from(lanes), lanes, None);
        init.push(x);
    }
    let init: Vec<Val> = (0..rows).flat_map(|_| init.clone()).collect();
    let sums = k.for_carry((zero, n, 1), &init, LoopHint::Plain, |k, ky, acc| {
        k.for_carry((zero, n, 1), acc, LoopHint::Plain, |k, kx, acc| {
            let row = k.mul(ky, stride);
            let row = k.add(row, kx);
            let row = k.mul(row, channels);
            let panel = k.mul_int(ky, taps);
            let panel = k.add(panel, kx);
            let panel = k.mul(panel, channels);
            let starts: Vec<Val> = (0..rows)
                .map(|r| {
                    let step = k.mul_int(channels, r);
                    k.add(row, step)
                })
                .collect();
            k.for_carry((zero, channels, 1), acc, LoopHint::Plain, |k, i, acc| {
                let at = k.add(panel, i);
                let at = k.mul_int(at, width);
                let bs: Vec<Val> = (0..vectors).map(|v| k.load(b, at, v * i64::from(lanes), lanes, None)).collect();
                let mut next = Vec::new();
                for r in 0..rows as usize {
                    let at = k.add(starts[r], i);
                    let x = k.load(a, at, 0, 1, None);
                    for (v, &b) in bs.iter().enumerate() {
                        next.push(k.fma(x, b, acc[r * vectors as usize + v]));
                    }
                }
                next
            })
        })
    });
    let least = k.splat_const(Const::f32(0.0), lanes);
    for r in 0..rows {
        let line = k.mul_int(columns, r);
        let line = k.add(line, at);
        for v in 0..vectors {
            let first = v * i64::from(lanes);
            let count = k.add_int(left, -first);
            let x = sums[(r * vectors + v) as usize];
            let more = k.load(residual, line, first, lanes, Some(count));
            let x = k.add(x, more);
            let x = k.bin(BinOp::Max, x, least);
            k.store(c, line, first, x, Some(count));
        }
    }
    k.finish()
}
