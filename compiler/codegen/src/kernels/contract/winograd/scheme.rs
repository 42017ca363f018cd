//! Whether a convolution is done by short algorithms, and by which, from estimates of time.

use super::*;
use crate::kernels::contract::fip;
use crate::kernels::contract::products::{Block, CACHE_BYTES, MEMORY_BYTES, OVERLAP, overlapped};

/// How a convolution is cut up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// The algorithm along each spatial axis.
    pub axes: Vec<ToomCook>,
    /// Distance of a tile's results along each spatial axis, and of its operands: the dilation of the filter.
    pub steps: Vec<i64>,
    /// Its products: rows are tiles.
    pub(super) block: Block,
    /// Tiles below which the direct sum is faster; 1 if it never is, or sizes are not expected to be so small.
    pub(super) least: i64,
}

/// Share of the direct kernel's time that the estimate must not exceed.
const GAIN: f64 = 0.85;
/// The same for sizes that are known only when the model runs, without the direct kernel for small ones.
const GAIN_ALONE: f64 = 0.6;
/// Columns a task should have, so that transforming the operands again for each is a small part.
const TASK_COLUMNS: i64 = 128;

impl Scheme {
    /// Elements that the last tiles read past the end of the operand, per spatial axis.
    pub fn reach(&self, op: &Conv, x: &[Dim], sizes: &[Dim]) -> Vec<Dim> {
        let past = |s: usize| {
            let span = Dim::from(self.axes[s].m as i64 * self.steps[s]);
            let read = &(&sizes[s].ceil_div(&span) * &span) + &Dim::from((self.axes[s].r as i64 - 1) * self.steps[s]);
            (&(&read - &op.before[s]) - &x[s]).at_least(&Dim::ZERO)
        };
        (0..self.axes.len()).map(past).collect()
    }

    /// Products of a tile.
    pub(super) fn products(&self) -> i64 { self.axes.iter().map(|a| a.n() as i64).product() }

    /// True if the direct sum is launched for few tiles.
    pub fn may_be_direct(&self) -> bool { self.least > 1 }

    /// Tiles whose direct sums take as long as a register tile of products, which is computed whole, and its transformations.
    fn fewest(&self) -> i64 {
        let per_tile: i64 = self.axes.iter().map(|a| (a.m * a.r) as i64).product();
        let whole = i64::from(self.block.tile.mr) * self.products() * 5 / 4;
        (whole + per_tile - 1) / per_tile
    }

    /// Tiles along each spatial axis.
    pub(super) fn tiles(&self, sizes: &[Dim]) -> Vec<Dim> {
        let count = |(a, (&step, size)): (&ToomCook, (&i64, &Dim))| &size.ceil_div(&Dim::from(a.m as i64 * step)) * &Dim::from(step);
        self.axes.iter().zip(self.steps.iter().zip(sizes)).map(count).collect()
    }
}

/// The best scheme for a convolution, if one is allowed and beats the direct sum.
pub fn scheme(l: &Lowering, n: NodeId, op: &Conv) -> Option<Scheme> {
    let node = l.g.node(n);
    let (x, w) = (l.g.ty(node.inputs[0]), l.g.ty(node.inputs[1]));
    let shape = &l.g.ty(node.outputs[0]).shape;
    let weights = w.fixed_shape()?;
    let spatial = op.strides.len();
    let plain = op.groups == 1 && op.strides.iter().all(|&s| s == 1);
    let cuts = op.before.iter().chain(&op.after).any(|p| p.as_const().is_none_or(|p| p < 0));
    let constant = l.g.weight(node.inputs[1]).is_some();
    if l.target.is_gpu() || l.exact() || !plain || cuts || !constant || spatial > 2 || op.out.compute() != DType::F32 {
        return None;
    }
    let per_axis: Vec<Vec<ToomCook>> = weights[2..].iter().map(|&r| ToomCook::for_taps(r)).collect();
    let combined = per_axis.iter().fold(vec![Vec::new()], |all: Vec<Vec<ToomCook>>, next| {
        all.iter().flat_map(|axes| next.iter().map(move |&a| [&axes[..], &[a]].concat())).collect()
    });
    let problem = Problem {
        // Batches are mostly of one.
        images: shape[0].eval(&|_| Some(1)).unwrap_or(1).max(1),
        sizes: shape[2..].iter().map(|d| hint(d).max(1)).collect(),
        channels: hint(&x.shape[1]).max(1),
        cols: weights[0] as i64,
        steps: op.dilations.iter().map(|&d| d as i64).collect(),
        lanes: i64::from(l.target.lanes(DType::F32)),
        caches: l.target.cache_bytes,
        known: shape[2..].iter().all(|d| d.as_const().is_some()),
        scales: l.target.adds_beside_multiplying() && l.g.weight(node.inputs[1]).is_some_and(|w| fip::fits(&l.weights.get(w).tensor)),
    };
    // Columns that fill less than half a vector are better off in narrower ones, or other axes in the lanes.
    if 2 * problem.cols <= problem.lanes {
        return None;
    }
    let direct = problem.direct(weights[2..].iter().product::<usize>() as i64);
    let candidates = combined.into_iter().filter(|axes| axes.iter().any(|a| a.m > 1));
    let (time, mut best) = candidates.filter_map(|axes| problem.best(l, axes)).min_by(|a, b| a.0.total_cmp(&b.0))?;
    if !problem.known && time >= GAIN_ALONE * direct {
        best.least = best.fewest();
    }
    (time < GAIN * direct).then_some(best)
}

/// Sizes that decide; symbolic ones are guessed.
struct Problem {
    images: i64,
    sizes: Vec<i64>,
    channels: i64,
    cols: i64,
    steps: Vec<i64>,
    lanes: i64,
    caches: [u64; 3],
    /// True if the sizes are known.
    known: bool,
    /// The filters can be multiplied with by fast inner products.
    scales: bool,
}

impl Problem {
    /// Time of the direct sum, in vector multiply-adds.
    fn direct(&self, taps: i64) -> f64 {
        let pixels = self.images * self.sizes.iter().product::<i64>();
        let vectors = (self.cols + self.lanes - 1) / self.lanes;
        let (terms, stream) = (taps * self.channels, (4 * taps * self.channels * self.cols) as f64 / MEMORY_BYTES);
        let plain = (pixels * vectors * terms) as f64 * 1.08;
        // Windows are copied before.
        let fip = pixels as f64 * ((vectors * terms) as f64 * 0.75 + 1.5 * fip::row_time(self.lanes as u32, terms));
        overlapped(self.lanes, if self.scales { plain.min(fip) } else { plain }, stream)
    }

    /// The best cut for an algorithm, with its time.
    fn best(&self, l: &Lowering, axes: Vec<ToomCook>) -> Option<(f64, Scheme)> {
        let along = |(a, (&step, &size)): (&ToomCook, (&i64, &i64))| (size + a.m as i64 * step - 1) / (a.m as i64 * step) * step;
        let tiles = self.images * axes.iter().zip(self.steps.iter().zip(&self.sizes)).map(along).product::<i64>();
        let scaled = Block::all_fip(l, tiles).filter(|_| self.scales);
        let cuts = Block::all(l, tiles, self.cols).chain(scaled).map(|block| {
            // Of unknown sizes there may be one block.
            let (blocks, columns) = if self.known { ((tiles + block.len() - 1) / block.len(), TASK_COLUMNS) } else { (1, TASK_COLUMNS / 2) };
            let block = Block { panels: block.panels_of_task(self.cols, blocks, columns), ..block };
            let scheme = Scheme { axes: axes.clone(), steps: self.steps.clone(), block, least: 1 };
            (self.time(&scheme, tiles), scheme)
        });
        cuts.min_by(|a, b| a.0.total_cmp(&b.0))
    }

    fn time(&self, s: &Scheme, tiles: i64) -> f64 {
        let panels = s.block.panels_of(self.cols);
        let (blocks, tasks) = ((tiles + s.block.len() - 1) / s.block.len(), (panels + s.block.panels - 1) / s.block.panels);
        let products = s.products();
        let multiply = s.block.time(tiles, self.cols, products, self.channels);
        let x_vectors = ((self.channels + self.lanes - 1) / self.lanes * tasks) as f64;
        let y_vectors = ((self.cols + self.lanes - 1) / self.lanes) as f64;
        let results: i64 = s.axes.iter().map(|a| a.m as i64).product();
        let steps = products as f64 * 2.2 * s.axes.iter().filter(|a| a.m > 1).count() as f64;
        let per_tile = x_vectors * (steps + 2.0 * products as f64 + 10.0) + y_vectors * (steps + (products + 3 * results) as f64 + 10.0);
        let mut transform = tiles as f64 * per_tile / OVERLAP;
        if s.block.fip {
            transform += (tiles * products * tasks) as f64 * fip::row_time(s.block.tile.lanes, self.channels);
        }
        // What does not stay in the second-level cache between its uses comes from beyond.
        let near = self.caches[1] as f64;
        let filters = (products * self.channels * self.cols * 4) as f64;
        let block = (products * s.block.len() * (self.channels + s.block.tile.nr()) * 4) as f64;
        let mut far = if filters + block > 0.8 * near { filters * (blocks - 1) as f64 } else { 0.0 };
        if block > 0.7 * near {
            far += block * (panels * blocks) as f64;
        }
        overlapped(self.lanes, multiply + transform, filters / MEMORY_BYTES + far / CACHE_BYTES)
    }
}
