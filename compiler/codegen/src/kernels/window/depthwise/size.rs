//! How many outputs a block has.

use super::*;

/// Elementwise work per output vector from which blocks stay small: code for each of their outputs is written out.
const HEAVY: u32 = 24;
/// Outputs of a block then.
const HEAVY_BLOCK: i64 = 8;
/// Rows of outputs that an estimate looks at, at most.
const TALL: i64 = 1024;

/// Rows and columns of the block of least estimated time per output.
pub fn block_size(l: &Lowering, spec: &Spec, sizes: (Option<&Dim>, &Dim), work: u32) -> (i64, i64) {
    let last = spec.kernel.len() - 1;
    let registers = i64::from(l.target.vector_registers) - 2;
    let taps = spec.kernel[last] as i64;
    let outer: i64 = spec.kernel[..last.saturating_sub(1)].iter().product::<usize>() as i64;
    let (height, width) = (sizes.0.map_or(1, |d| hint(d).clamp(1, TALL)), hint(sizes.1).max(1));
    // Multiply-adds begun before the first is done.
    let in_flight = if l.target.vector_bytes >= 64 { 4.0 } else { 8.0 };
    let mut best = (f64::INFINITY, (1, 1));
    for rows in 1..=height.min(4) {
        let blocks: Vec<(i64, i64)> =
            (0..height).step_by(rows as usize).map(|from| row_uses(spec, from.min(height - rows), rows)).collect();
        for columns in 1..=width.min(12) {
            let (across, live) = (inputs(spec, last, columns), live_inputs(spec, last, columns));
            let small = work < HEAVY || rows * columns <= HEAVY_BLOCK;
            if rows * columns + live + 2 > registers || !small {
                continue;
            }
            let time = |&(down, uses): &(i64, i64)| {
                let (weights, loads) = ((outer * uses * taps) as f64, (outer * across * down) as f64);
                // Sums wait for each other where there are few.
                let adds = columns as f64 * weights * (in_flight / (rows * columns) as f64).max(1.0);
                // A load from the second-level cache takes as long as two multiply-adds, one from the first as long as one.
                adds.max(2.0 * loads).max(loads + weights) + 2.0 * (rows * columns) as f64 + 10.0
            };
            let time = ((width + columns - 1) / columns) as f64 * blocks.iter().map(time).sum::<f64>();
            if time < best.0 {
                best = (time, (rows, columns));
            }
        }
    }
    best.1
}

/// Input rows that a block of so many output rows reads, and how often it uses them: rows that do not exist are left out.
fn row_uses(spec: &Spec, from: i64, rows: i64) -> (i64, i64) {
    let Some(axis) = spec.kernel.len().checked_sub(2) else { return (1, 1) };
    let (lo, hi) = spec.inside.get(axis).map_or((i64::MIN, i64::MAX), |(lo, hi)| (hint(lo), hint(hi)));
    let window = |t: i64| {
        let first = (from + t) * spec.strides[axis] as i64;
        (0..spec.kernel[axis]).map(move |k| first + (k * spec.dilations[axis]) as i64)
    };
    let uses: Vec<i64> = (0..rows).flat_map(window).filter(|row| (lo..hi).contains(row)).collect();
    (uses.iter().collect::<HashSet<_>>().len() as i64, uses.len() as i64)
}

/// Input positions along a spatial axis that `n` neighbouring outputs read.
fn inputs(spec: &Spec, axis: usize, n: i64) -> i64 {
    let window = |t: i64| (0..spec.kernel[axis]).map(move |k| t * spec.strides[axis] as i64 + (k * spec.dilations[axis]) as i64);
    (0..n).flat_map(window).collect::<HashSet<i64>>().len() as i64
}

/// Most of these input positions that are held at once: position by position of the window, each from its first use to its last.
fn live_inputs(spec: &Spec, axis: usize, n: i64) -> i64 {
    let (step, dilation) = (spec.strides[axis] as i64, spec.dilations[axis] as i64);
    let mut uses: HashMap<i64, (usize, usize)> = HashMap::new();
    for k in 0..spec.kernel[axis] {
        for t in 0..n {
            uses.entry(t * step + k as i64 * dilation).or_insert((k, k)).1 = k;
        }
    }
    let held = |k: usize| uses.values().filter(|(first, last)| (*first..=*last).contains(&k)).count() as i64;
    (0..spec.kernel[axis]).map(held).max().unwrap_or(0)
}
