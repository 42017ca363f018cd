//! Operands of a contraction as lines by k, and constant ones packed in tiles of lines.

use super::*;
use crate::kb::multiple;
use crate::pack::{Images, Source};

/// An operand: its lines are the rows of A or the columns of B.
#[derive(Clone)]
pub(super) struct Operand {
    pub place: Place,
    /// Stride per batch axis.
    pub batch: Vec<Dim>,
    /// Nested axes of the lines, outermost first: size and stride.
    pub lines: Vec<(Dim, Dim)>,
    /// Nested axes of the sum, outermost first: size and stride.
    pub k: Vec<(Dim, Dim)>,
    /// From tile to tile of lines, if it is packed in tiles: then lines are counted within a tile, and there are as many as
    /// the tile has.
    pub tile: Option<Dim>,
    /// It is packed as chunks will lie in shared memory, all terms of a chunk present.
    pub image: bool,
}

impl Operand {
    /// Number of lines.
    pub fn count(&self) -> Dim { Dim::product(self.lines.iter().map(|x| &x.0)) }

    /// True if neighbours along k are neighbours in memory.
    pub fn k_is_unit(&self) -> bool { self.k.last().is_some_and(|k| k.1.is(1)) }

    /// True if neighbouring lines are neighbours in memory.
    pub fn lines_are_unit(&self) -> bool { self.lines.last().is_some_and(|x| x.1.is(1)) }

    /// Elements along k that may be read at once: a power of two that divides every start of such a run.
    pub fn vector_along_k(&self, most: i64) -> i64 {
        let starts = self.batch.iter().chain(self.lines.iter().map(|x| &x.1)).chain(&self.tile);
        let outer = self.k.iter().rev().skip(1).map(|k| &k.1);
        let starts: Vec<&Dim> = starts.chain(outer).chain([&self.place.view.offset]).collect();
        // A run must not leave an inner axis; at the end of all axes it is cut.
        let inner = self.k.last().filter(|_| self.k.len() > 1).map(|k| &k.0);
        fitting(most, |v| self.k_is_unit() && starts.iter().copied().chain(inner).all(|d| multiple(d, v)))
    }

    /// Neighbouring lines that may be read at once.
    pub fn vector_along_lines(&self, most: i64) -> i64 {
        let starts = self.batch.iter().chain(self.k.iter().map(|k| &k.1)).chain(&self.tile);
        let starts: Vec<&Dim> = starts.chain([&self.place.view.offset]).collect();
        fitting(most, |v| self.lines.len() == 1 && self.lines_are_unit() && starts.iter().all(|d| multiple(d, v)))
    }

    /// Registers in which a thread keeps the addresses of what it stages of every chunk of `lines` by `depth`, with vectors
    /// of up to `most` elements.
    pub fn address_registers(&self, most: i64, (lines, depth): (i64, i64), threads: i64) -> i64 {
        let vector = self.vector_along_k(most.min(depth)).max(self.vector_along_lines(most.min(lines)));
        let even = matches!(&self.lines[..], [(count, stride)] if stride.as_const().is_some() && multiple(count, lines));
        // Addresses a constant apart are one; others are kept for every vector, with what their checks need.
        let apart = if even && vector > 1 { 1 } else { lines * depth / (vector * threads) };
        if apart == 1 { 2 } else { 4 * apart.max(1) }
    }

    /// [`Operand::packed`] unless it can be staged well as it is.
    pub fn packed_if_needed(&self, l: &mut Lowering, batch: &[Dim], width: i64) -> Operand {
        let most = 16 / self.place.dtype.size() as i64;
        let good = self.lines_are_unit() && self.vector_along_lines(most) == most;
        let packed = if good { None } else { self.packed(l, batch, width) };
        packed.unwrap_or_else(|| self.clone())
    }

    /// What it is made from, if it is constant.
    pub fn constant(&self, l: &Lowering) -> Option<Source> {
        let Storage::Blob(index) = l.plan.buffers[self.place.buffer.0 as usize].storage else { return None };
        let blob = &l.plan.blobs[index as usize];
        Some(blob.source.clone()).filter(|_| blob.pack == Pack::Plain)
    }

    /// The operand as images of chunks of `lines` lines by `depth` terms, if it is constant. Elements are split into
    /// `planes` parts of type `dtype`, or kept if that is 1.
    pub fn images(&self, l: &mut Lowering, batch: &[Dim], (lines, depth): (i64, i64), dtype: DType, planes: i64) -> Option<Operand> {
        let source = self.constant(l)?;
        let [(count, line)] = &self.lines[..] else { return None };
        let pairs = |sizes: &mut dyn Iterator<Item = (&Dim, &Dim)>| {
            sizes.map(|(n, s)| Some((size(n)?, size(s)?))).collect::<Option<Vec<_>>>()
        };
        let images = Images {
            batch: pairs(&mut batch.iter().zip(&self.batch))?,
            lines: (size(count)?, size(line)?),
            k: pairs(&mut self.k.iter().map(|k| (&k.0, &k.1)))?,
            offset: size(&self.place.view.offset)?,
            tile: (lines as usize, depth as usize),
            planes: planes as usize,
        };
        let (tiles, chunks) = images.counts();
        let image = lines * depth * planes;
        let tile = Dim::from(image * chunks as i64);
        let whole = &tile * &Dim::from(tiles);
        let buffer = l.blob(Blob { source, pack: Pack::Images(images), dtype });
        let k = Dim::product(self.k.iter().map(|k| &k.0));
        Some(Operand {
            place: Place { buffer, view: View { offset: Dim::ZERO, strides: Vec::new() }, dtype },
            batch: dense(batch, whole),
            lines: vec![(Dim::from(lines), Dim::ONE)],
            k: vec![(k, Dim::from(lines * planes))],
            tile: Some(tile),
            image: true,
        })
    }

    /// The operand in tiles of `width` neighbouring lines, k after k, if it is constant.
    pub fn packed(&self, l: &mut Lowering, batch: &[Dim], width: i64) -> Option<Operand> {
        let source = self.constant(l)?;
        let [(lines, line)] = &self.lines[..] else { return None };
        let (lines, line) = (size(lines)?, size(line)?);
        let width = width as usize;
        let tiles = lines.div_ceil(width);
        let mut shape: Vec<usize> = batch.iter().map(size).collect::<Option<_>>()?;
        let mut strides: Vec<usize> = self.batch.iter().map(size).collect::<Option<_>>()?;
        let tile_axis = shape.len();
        shape.push(tiles);
        strides.push(line * width);
        for (k, stride) in &self.k {
            shape.push(size(k)?);
            strides.push(size(stride)?);
        }
        let lane_axis = shape.len();
        shape.push(width);
        strides.push(line);
        let offset = size(&self.place.view.offset)?;
        let pack = Pack::Strided(Strided { shape, strides, offset, limits: vec![(tile_axis, lane_axis, lines)] });
        let dtype = self.place.dtype;
        let buffer = l.blob(Blob { source, pack, dtype });
        let k = Dim::product(self.k.iter().map(|k| &k.0));
        let tile = &k * &Dim::from(width);
        let whole = &tile * &Dim::from(tiles);
        let view = View { offset: Dim::ZERO, strides: Vec::new() };
        Some(Operand {
            place: Place { buffer, view, dtype },
            batch: dense(batch, whole),
            lines: vec![(Dim::from(width), Dim::ONE)],
            k: vec![(k, Dim::from(width))],
            tile: Some(tile),
            image: false,
        })
    }
}

fn size(d: &Dim) -> Option<usize> { d.as_const().and_then(|c| usize::try_from(c).ok()) }

/// Row-major strides of axes of these sizes whose elements are `element` apart.
pub(super) fn dense(sizes: &[Dim], element: Dim) -> Vec<Dim> {
    let mut strides = vec![element; sizes.len()];
    for i in (1..sizes.len()).rev() {
        strides[i - 1] = &strides[i] * &sizes[i];
    }
    strides
}

/// The largest power of two up to `most` that fits.
fn fitting(most: i64, fits: impl Fn(i64) -> bool) -> i64 {
    let mut v = most.max(1);
    while v > 1 && !fits(v) {
        v /= 2;
    }
    v
}
