//! Which tile a contraction gets: an estimate of the time of every candidate, in cycles of a multiprocessor.
//!
//! A candidate's tiles run in waves of as many as fit the multiprocessors at once. A wave takes as long as the busiest of
//! three, and a quarter of the others' time: multiply-adds at the rate of its unit, bytes read from shared memory at 128 a
//! cycle, bytes staged through the L2 cache at 48 a cycle and multiprocessor. It takes no less than the latency of a copy for
//! every chunk, as far as other chunks on their way do not hide it. Filling the pipeline and storing the results are added.
//! Splitting the sum multiplies the tiles; partial sums are written, read and added by a second kernel.
//!
//! Rates of multiply-adds a cycle and multiprocessor: 128 of f32, 32 of f64, 64 of integers, 1024 of f16 and bf16, 2048 of
//! bytes, a sixth of 1024 for f32 in parts: those of the large chips. On chips whose tensor cores are small beside their
//! ordinary units f32 in parts is slower than it is thought to be.
//!
//! Symbolic sizes count with their hints; every candidate is right for every size.

use super::*;

/// What is known about a candidate.
pub(super) struct Candidate<T> {
    pub tile: T,
    pub bm: i64,
    pub bn: i64,
    pub threads: i64,
    /// Terms of a chunk.
    pub depth: i64,
    pub stages: i64,
    /// Bytes of shared memory.
    pub shared: i64,
    /// Registers of a thread.
    pub registers: i64,
    /// Multiply-adds a multiprocessor makes in a cycle.
    pub rate: f64,
    /// Bytes read from shared memory for each term of the sum.
    pub reads: f64,
    /// Bytes staged for each term of the sum.
    pub staged: f64,
}

/// The chosen tile, and the parts the sum is split into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<T> {
    pub tile: T,
    pub splits: i64,
    /// Estimated cycles.
    pub time: f64,
}

/// Cycles from a copy's begin to its end.
const LATENCY: f64 = 700.0;
/// Cycles a kernel takes to begin and end.
const LAUNCH: f64 = 3000.0;

/// Part of the time of what is not the busiest that is not hidden behind it.
const OVERLAP: f64 = 0.25;

/// The candidate of least estimated time; `split` allows to split the sum.
pub(super) fn choose<T: Copy>(l: &Lowering, p: &Problem, split: bool, candidates: impl IntoIterator<Item = Candidate<T>>) -> Option<Plan<T>> {
    let gpu = l.target.gpu?;
    let (m, n, k) = (guess(&p.m), guess(&p.n), guess(&p.k));
    let batch = guess(&Dim::product(&p.batch));
    let mut best: Option<Plan<T>> = None;
    for c in candidates {
        if c.shared > i64::from(gpu.shared_bytes) || c.registers > i64::from(gpu.thread_registers) {
            continue;
        }
        let tiles = batch * (m + c.bm - 1).div_euclid(c.bm) * (n + c.bn - 1).div_euclid(c.bn);
        let chunks = (k + c.depth - 1) / c.depth;
        let processors = i64::from(gpu.multiprocessors);
        // Beside each other on a multiprocessor: by threads, registers and shared memory.
        let room = (2048 / c.threads).min(65536 / (c.registers.max(32) * c.threads)).min(i64::from(gpu.shared_bytes) / c.shared.max(1)).clamp(1, 16);
        let most = if split { (2 * processors / tiles.max(1)).min(chunks / 4).clamp(1, 32) } else { 1 };
        let mut splits = 1;
        while splits <= most {
            let tiles = tiles * splits;
            let beside = ((tiles + processors - 1) / processors).clamp(1, room) as f64;
            let waves = (tiles as f64 / (processors as f64 * beside)).ceil();
            let terms = ((chunks + splits - 1) / splits * c.depth) as f64;
            let work = (c.bm * c.bn) as f64 * terms / c.rate;
            let (reads, staged) = (terms * c.reads / 128.0, terms * c.staged / 48.0);
            let most = work.max(reads).max(staged);
            let busy = (most + OVERLAP * (work + reads + staged - most)) * beside;
            let waiting = terms / c.depth as f64 * LATENCY / (c.stages - 1) as f64;
            let store = (c.bm * c.bn) as f64 * 4.0 / 48.0 * beside;
            let mut time = LAUNCH + waves * (busy.max(waiting) + LATENCY * 2.0 + store);
            if splits > 1 {
                let bytes = (batch * m * n * 4 * 2 * splits) as f64;
                time += LAUNCH + bytes / (48.0 * processors as f64);
            }
            if best.is_none_or(|b| time < b.time) {
                best = Some(Plan { tile: c.tile, splits, time });
            }
            splits *= 2;
        }
    }
    best
}

pub(super) fn guess(d: &Dim) -> i64 { hint(d).clamp(1, 1 << 24) }
