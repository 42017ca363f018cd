//! The choice of a register tile: how many rows and vectors of columns are summed up at once.

use super::*;

/// Terms of the sum computed in one step of the innermost loop: of a few channels all, so that none are left over.
pub(super) fn unroll(l: &Lowering, tile: Tile, k: &[(Dim, Dim)], extra: Extra) -> u32 {
    // Of two terms at once, both panels and two broadcast elements are in registers next to the accumulators; a tile that
    // leaves no room for them would keep its accumulators in memory.
    let registers = tile.mr * tile.nv + 2 * tile.nv + 2 + extra.fixed + extra.column * tile.nv;
    let most = match l.target.vector_bytes {
        ..=16 => 8,
        _ if registers <= l.target.vector_registers => 2,
        _ => return 1,
    };
    match k.last().and_then(|k| k.0.as_const()) {
        Some(n @ 1..=4) => n as u32,
        _ => most,
    }
}

/// How many row tiles of `mr` rows an axis of `n` takes, and how many of a row less. There are none of the latter unless whole
/// tiles would compute more than a fiftieth twice: they are a second piece of code.
pub(super) fn row_heights(n: i64, mr: i64) -> (i64, i64) {
    let tiles = (n + mr - 1) / mr;
    let twice = tiles * mr - n;
    let short = if mr > 1 && twice * 50 > n && twice <= tiles { twice } else { 0 };
    (tiles - short, short)
}

/// How many rows to expect, and whether the last tile is known with them: batches are mostly of one.
pub(super) fn row_count(row: &Dim) -> (i64, bool) {
    let single = row.eval(&|_| Some(1)).unwrap_or(1);
    match row.as_const() {
        Some(n) => (n.max(1), true),
        None if single >= 64 => (single, true),
        None => (64, false),
    }
}

/// True if the rows of a tile share one or two sets of the first-level cache.
pub(super) fn rows_meet(strides: &[Dim], k: &[(Dim, Dim)], dtype: DType) -> bool {
    let way = MEETING_BYTES / dtype.size() as i64;
    let along = k.last().is_some_and(|k| k.1.is(1));
    along && strides.last().and_then(Dim::as_const).is_some_and(|s| s > 0 && s % way == 0)
}

/// The register tile of least estimated time, in cycles, for a sum of `k` steps. `meet`: its rows share one or two sets of the
/// first-level cache.
pub(super) fn choose_tile(
    l: &Lowering,
    row: &Dim,
    cols: &Dim,
    k: &Dim,
    acc: DType,
    meet: bool,
    extra: Extra,
) -> (f64, Tile) {
    let full = l.target.lanes(acc);
    let n = cols.as_const().unwrap_or(1024).max(1);
    let (rows, last) = row_count(row);
    let k = k.as_const().unwrap_or(256).max(1) as f64;
    // Narrow results do not fill a vector.
    let lanes = if n < i64::from(full) { (n as u32).next_power_of_two() } else { full };
    // Two multiply-adds a cycle; counted as one where vectors are so wide that loads keep up with it.
    let mut vectors = vec![(lanes, if l.target.vector_bytes >= 64 { 1.0 } else { 0.5 })];
    if lanes == full && l.target.halves_are_twice_as_fast() {
        vectors.push((full / 2, 0.5));
    }
    // One register each for a broadcast element and for the panel's vectors in flight.
    // Cranelift's multiply-add overwrites a factor and its allocator wants some room besides.
    let room = if l.target.vector_bytes <= 16 { 4 } else { 1 };
    let registers = i64::from(l.target.vector_registers) - room - i64::from(extra.fixed);
    let per_column = 1 + i64::from(extra.column);
    let mut best = (f64::INFINITY, Tile { mr: 1, nv: 1, lanes });
    for (lanes, cycles) in vectors {
        for nv in 1..=8i64 {
            for mr in 1..=registers {
                // The next element is broadcast while the last is used; with one vector a row little else can be held back.
                let ahead = i64::from(nv == 1 && l.target.vector_bytes == 32) * 2;
                if mr * nv + nv * per_column + ahead > registers || mr > rows || (nv > 1 && (nv - 1) * i64::from(lanes) >= n) {
                    continue;
                }
                let (m, v) = (mr as f64, nv as f64);
                let (tall, short) = match row.as_const() {
                    Some(n) => row_heights(n, mr),
                    None => ((rows + mr - 1) / mr, 0),
                };
                // All are short: found with a row less.
                if tall == 0 {
                    continue;
                }
                let tall = if last { tall as f64 } else { (rows as f64 + (m - 1.0) / 2.0) / m };
                let panels = ((n + nv * i64::from(lanes) - 1) / (nv * i64::from(lanes))) as f64;
                // Multiply-adds, loads at two a cycle, and the latency of a dependent chain; whole vectors come from
                // further away than elements, which share their cache lines.
                let missed = |m: f64| if meet && m >= WAYS { m } else { 0.0 };
                let step = |m: f64| (m * v * cycles).max((m + v) * 0.6).max(4.0) + 0.2 * m + 0.35 * v + missed(m);
                let each = |m: f64| step(m) * k + 20.0 + 2.0 * m * v;
                let time = panels * (tall * each(m) + short as f64 * each(m - 1.0));
                if time < best.0 {
                    best = (time, Tile { mr: mr as u32, nv: nv as u32, lanes });
                }
            }
        }
    }
    best
}
