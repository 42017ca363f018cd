//! Constant data as the kernels want it: recipes applied once, when the artifact is written.

mod halves;
mod scaled;

use xlac_ir::kernel::Const;
use xlac_ir::scalar;
use xlac_ir::tensor::Tensor;
use xlac_ir::weights::{WeightId, Weights};
use xlac_ir::DType;

use crate::toom_cook::ToomCook;
pub use halves::Halves;
pub use scaled::Scaled;

/// Constant data of the artifact.
#[derive(Clone, Debug, PartialEq)]
pub struct Blob {
    /// What it is made from.
    pub source: Source,
    /// How it is arranged.
    pub pack: Pack,
    /// Element type it is stored in.
    pub dtype: DType,
}

/// What a blob is made from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A weight of the program.
    Weight(WeightId),
    /// A small constant.
    Tensor(Tensor),
}

impl Source {
    /// The elements.
    pub fn tensor<'a>(&'a self, weights: &'a Weights) -> &'a Tensor {
        match self {
            Source::Weight(id) => &weights.get(*id).tensor,
            Source::Tensor(tensor) => tensor,
        }
    }
}

/// How the elements of a blob are arranged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pack {
    /// As they are, row-major.
    Plain,
    /// Any strided arrangement: element `i` of the blob, row-major over `shape`, is source element
    /// `offset + sum of i[a] * strides[a]`, or zero where the coordinate along a pair of axes passes its limit.
    Strided(Strided),
    /// Chunks as a GPU's kernels keep them in shared memory.
    Images(Images),
    /// Filters transformed for short convolutions.
    Filters(Filters),
    /// A matrix in combinations of its quarters.
    Halves(Halves),
    /// A matrix multiplied by powers of two.
    Scaled(Scaled),
}

/// A matrix of lines by terms of a sum, cut in chunks of some lines by some terms: `[batch][tile][chunk][plane][image]`. A
/// chunk's image is line after line, its pieces of 16 bytes exchanged as [`Swizzle`] says; lines and terms past the end are
/// zero. With 3 planes an f32 is split as [`split`] does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Images {
    /// Size and stride of batch axes, outermost first.
    pub batch: Vec<(usize, usize)>,
    /// Number of lines, and stride.
    pub lines: (usize, usize),
    /// Size and stride of the nested axes of the sum, outermost first.
    pub k: Vec<(usize, usize)>,
    /// First source element.
    pub offset: usize,
    /// Lines and terms of a chunk.
    pub tile: (usize, usize),
    /// Parts of an element.
    pub planes: usize,
}

/// Filters of a convolution, transformed along every axis ([`ToomCook::filter`]), in panels of columns:
/// `[panel][product][input channel][column]`, zero past the last column. Computed in f64 and rounded once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filters {
    /// The algorithm along each axis of the filter.
    pub axes: Vec<ToomCook>,
    /// Number of output channels, the columns, and stride.
    pub cols: (usize, usize),
    /// Number of input channels and stride.
    pub channels: (usize, usize),
    /// Strides of the taps along each axis.
    pub taps: Vec<usize>,
    /// First source element.
    pub offset: usize,
    /// Columns of a panel.
    pub width: usize,
    /// Powers of two by which input and output channels are multiplied before; those that are all zeros may have any.
    pub exponents: Option<(Vec<i16>, Vec<i16>)>,
}

impl Filters {
    /// The elements of the blob.
    pub fn panels(&self, tensor: &Tensor) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.len());
        let done = write_filters(tensor, self, |panel| {
            all.extend_from_slice(panel);
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = done;
        all
    }

    /// Products of a tile of results.
    pub fn products(&self) -> usize { self.axes.iter().map(|a| a.n()).product() }

    fn len(&self) -> usize { self.cols.0.div_ceil(self.width) * self.width * self.channels.0 * self.products() }

    /// Source offsets of the taps of a filter, row-major.
    fn tap_offsets(&self) -> Vec<usize> {
        self.axes.iter().zip(&self.taps).fold(vec![0], |all, (axis, stride)| {
            all.iter().flat_map(|at| (0..axis.r).map(move |t| at + t * stride)).collect()
        })
    }
}

/// Multiplies a matrix with every line of `values` along one axis, of which `outer` lie before it and `inner` numbers behind.
fn transform_axis(matrix: &[Vec<f64>], values: &[f64], outer: usize, inner: usize) -> Vec<f64> {
    let taps = values.len() / (outer * inner);
    let mut out = vec![0.0; outer * matrix.len() * inner];
    for (line, to) in out.chunks_exact_mut(inner).enumerate() {
        let (o, row) = (line / matrix.len(), &matrix[line % matrix.len()]);
        for (k, g) in row.iter().enumerate() {
            let from = &values[(o * taps + k) * inner..][..inner];
            to.iter_mut().zip(from).for_each(|(sum, x)| *sum += g * x);
        }
    }
    out
}

/// How pieces of 16 bytes of the rows of a chunk are exchanged, so that pieces at one column of 8 consecutive rows lie in
/// different banks: with the column's number, some bits of the row's number are exclusive-ored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Swizzle {
    /// Elements of a piece.
    pub piece: usize,
    /// Pieces of a row: a power of two.
    pub pieces: usize,
}

impl Swizzle {
    /// For rows of `row` elements of this type.
    pub fn new(dtype: DType, row: usize) -> Swizzle {
        let piece = 16 / dtype.size();
        Swizzle { piece, pieces: row / piece }
    }

    /// Consecutive rows that lie in different banks as they are.
    pub fn share(self) -> usize { (8 / self.pieces).max(1) }

    /// Bits of the row's number that are used.
    pub fn mask(self) -> usize { self.pieces.min(8) - 1 }

    /// Rows after which the exchange repeats.
    pub fn period(self) -> usize { self.share() * (self.mask() + 1) }

    /// Where an element of a row lies.
    pub fn at(self, row: usize, element: usize) -> usize {
        let column = (element / self.piece) ^ ((row / self.share()) & self.mask());
        (row * self.pieces + column) * self.piece + element % self.piece
    }
}

/// The largest f32 that rounds to a finite bf16.
pub const LARGEST: f32 = f32::from_bits(0x7f7f_7fff);

/// The bits of three bf16 whose sum is an f32, each the nearest to what the ones before leave; exact unless the number is
/// next to the smallest ones. An infinity or NaN is the first one alone.
pub fn split(x: f32) -> [u16; 3] {
    let narrow = |x: f32| scalar::convert(Const::f32(x), DType::BF16).bits as u16;
    let wide = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    if !x.is_finite() {
        return [narrow(x), 0, 0];
    }
    let first = narrow(x.clamp(-LARGEST, LARGEST));
    let rest = x - wide(first);
    let second = narrow(rest);
    [first, second, narrow(rest - wide(second))]
}

impl Images {
    /// Tiles of lines and chunks of terms.
    pub fn counts(&self) -> (usize, usize) {
        let k: usize = self.k.iter().map(|k| k.0).product();
        (self.lines.0.div_ceil(self.tile.0), k.div_ceil(self.tile.1))
    }

    fn len(&self) -> usize {
        let (tiles, chunks) = self.counts();
        let batch: usize = self.batch.iter().map(|b| b.0).product();
        batch * tiles * chunks * self.tile.0 * self.tile.1 * self.planes
    }
}

/// A strided arrangement with zero padding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Strided {
    /// Shape of the blob.
    pub shape: Vec<usize>,
    /// Stride in the source, per axis of the blob, in elements.
    pub strides: Vec<usize>,
    /// First source element.
    pub offset: usize,
    /// `(axis, inner axis, limit)`: zero unless `index[axis] * shape[inner] + index[inner] < limit`, for each.
    pub limits: Vec<(usize, usize, usize)>,
}

impl Blob {
    /// Elements of the blob.
    pub fn len(&self, weights: &Weights) -> usize {
        match &self.pack {
            Pack::Plain => self.tensor(weights).len(),
            Pack::Strided(s) => s.shape.iter().product(),
            Pack::Images(images) => images.len(),
            Pack::Filters(filters) => filters.len(),
            Pack::Halves(halves) => halves.len(),
            Pack::Scaled(scaled) => scaled.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self, weights: &Weights) -> bool { self.len(weights) == 0 }

    /// Bytes of the blob.
    pub fn bytes(&self, weights: &Weights) -> usize { self.len(weights) * self.dtype.size() }

    fn tensor<'a>(&'a self, weights: &'a Weights) -> &'a Tensor { self.source.tensor(weights) }

    /// Makes the bytes, piece by piece, so that no second copy of a large weight is ever held.
    pub fn write<E>(&self, weights: &Weights, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let tensor = self.tensor(weights);
        match &self.pack {
            Pack::Plain if tensor.dtype == self.dtype => sink(&tensor.data),
            Pack::Plain => {
                let flat = Strided { shape: vec![tensor.len()], strides: vec![1], offset: 0, limits: Vec::new() };
                write_strided(tensor, self.dtype, &flat, sink)
            }
            Pack::Strided(s) => write_strided(tensor, self.dtype, s, sink),
            Pack::Images(images) => write_images(tensor, self.dtype, images, sink),
            Pack::Filters(filters) => write_filters(tensor, filters, |panel| {
                let bytes: Vec<u8> = panel.iter().flat_map(|x| x.to_le_bytes()).collect();
                sink(&bytes)
            }),
            Pack::Halves(halves) => halves.write(tensor, sink),
            Pack::Scaled(scaled) => scaled.write(tensor, sink),
        }
    }
}

/// Lines copied at once, so that those of a power of two of elements do not push each other out of the cache.
const LINES: usize = 16;

/// Where the elements of nested axes lie, given their sizes and strides, outermost first.
pub fn offsets(axes: &[(usize, usize)]) -> Vec<usize> {
    axes.iter().fold(vec![0], |all, &(n, stride)| all.iter().flat_map(|at| (0..n).map(move |i| at + i * stride)).collect())
}

/// A matrix of weights, row-major: where its terms begin, the number of its columns with their stride, and its first element.
pub fn dense(tensor: &Tensor, terms: &[usize], cols: (usize, usize), offset: usize) -> Vec<f32> {
    if tensor.dtype != DType::F32 {
        let values = tensor.to_f32();
        return gather(|at| values[at], terms, cols, offset);
    }
    // No second copy of a large weight.
    let (values, _) = tensor.data.as_chunks::<4>();
    gather(|at| f32::from_le_bytes(values[at]), terms, cols, offset)
}

fn gather(value: impl Fn(usize) -> f32, terms: &[usize], cols: (usize, usize), offset: usize) -> Vec<f32> {
    if cols.1 == 1 {
        return terms.iter().flat_map(|term| (offset + term..).take(cols.0)).map(value).collect();
    }
    let mut out = vec![0.0; terms.len() * cols.0];
    for first in (0..cols.0).step_by(LINES) {
        let end = cols.0.min(first + LINES);
        for (term, line) in terms.iter().zip(out.chunks_exact_mut(cols.0)) {
            line[first..end].iter_mut().zip(first..).for_each(|(x, col)| *x = value(offset + term + col * cols.1));
        }
    }
    out
}

fn write_strided<E>(
    tensor: &Tensor,
    dtype: DType,
    s: &Strided,
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    if s.shape.contains(&0) {
        return Ok(());
    }
    let (from, to) = (tensor.dtype.size(), dtype.size());
    let rank = s.shape.len();
    let mut index = vec![0usize; rank];
    let mut buffer = Vec::with_capacity(1 << 16);
    loop {
        let padded = s.limits.iter().any(|&(a, b, limit)| index[a] * s.shape[b] + index[b] >= limit);
        if padded {
            buffer.extend_from_slice(&[0; 8][..to]);
        } else {
            let at = s.offset + index.iter().zip(&s.strides).map(|(i, s)| i * s).sum::<usize>();
            if tensor.dtype == dtype {
                buffer.extend_from_slice(&tensor.data[at * from..][..to]);
            } else {
                buffer.extend_from_slice(&scalar::convert(tensor.get(at), dtype).bits.to_le_bytes()[..to]);
            }
        }
        if buffer.len() >= (1 << 16) - 8 {
            sink(&buffer)?;
            buffer.clear();
        }
        let Some(axis) = (0..rank).rev().find(|&a| index[a] + 1 < s.shape[a]) else { break };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
    sink(&buffer)
}

fn write_images<E>(tensor: &Tensor, dtype: DType, m: &Images, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let (tiles, chunks) = m.counts();
    let (lines, depth) = m.tile;
    let size = dtype.size();
    let swizzle = Swizzle::new(dtype, depth);
    let (batches, terms) = (offsets(&m.batch), offsets(&m.k));
    let plane = lines * depth * size;
    let mut image = vec![0; plane * m.planes];
    for (batch, tile) in batches.iter().flat_map(|b| (0..tiles).map(move |t| (b, t))) {
        for chunk in 0..chunks {
            image.fill(0);
            let terms = &terms[chunk * depth..((chunk + 1) * depth).min(terms.len())];
            for line in 0..lines.min(m.lines.0 - tile * lines) {
                let start = m.offset + batch + (tile * lines + line) * m.lines.1;
                for (k, term) in terms.iter().enumerate() {
                    let at = swizzle.at(line, k) * size;
                    if tensor.dtype == dtype {
                        image[at..at + size].copy_from_slice(&tensor.data[(start + term) * size..][..size]);
                        continue;
                    }
                    let x = tensor.get(start + term);
                    if m.planes == 1 {
                        image[at..at + size].copy_from_slice(&scalar::convert(x, dtype).bits.to_le_bytes()[..size]);
                        continue;
                    }
                    for (i, part) in split(f32::from_bits(scalar::convert(x, DType::F32).bits as u32)).iter().enumerate() {
                        image[i * plane + at..][..size].copy_from_slice(&part.to_le_bytes());
                    }
                }
            }
            sink(&image)?;
        }
    }
    Ok(())
}

/// Makes the panels one after the other.
fn write_filters<E>(tensor: &Tensor, f: &Filters, mut sink: impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
    let matrices: Vec<Vec<Vec<f64>>> = f.axes.iter().map(|a| a.filter()).collect();
    let taps = f.tap_offsets();
    let get = |at: usize| f64::from(f32::from_bits(scalar::convert(tensor.get(at), DType::F32).bits as u32));
    let factors = |exponents: &[i16]| exponents.iter().map(|&e| f64::from(e).exp2()).collect::<Vec<_>>();
    let factors = f.exponents.as_ref().map(|(channels, cols)| (factors(channels), factors(cols)));
    let factor = |channel: usize, col: usize| factors.as_ref().map_or(1.0, |(of_channels, of_cols)| of_channels[channel] * of_cols[col]);
    let plane = f.channels.0 * f.width;
    let mut panel = vec![0f32; f.products() * plane];
    for first in (0..f.cols.0).step_by(f.width) {
        let cols = f.width.min(f.cols.0 - first);
        for channel in 0..f.channels.0 {
            // The columns of a panel lie side by side: [tap][column].
            let base = f.offset + first * f.cols.1 + channel * f.channels.1;
            let at = |tap: &usize, col: usize| if col < cols { get(base + tap + col * f.cols.1) * factor(channel, first + col) } else { 0.0 };
            let mut values: Vec<f64> = taps.iter().flat_map(|tap| (0..f.width).map(move |col| at(tap, col))).collect();
            let mut outer = 1;
            for (axis, matrix) in f.axes.iter().zip(&matrices) {
                let inner = values.len() / (outer * axis.r);
                values = transform_axis(matrix, &values, outer, inner);
                outer *= axis.n();
            }
            for (product, line) in values.chunks_exact(f.width).enumerate() {
                let to = &mut panel[product * plane + channel * f.width..][..f.width];
                to.iter_mut().zip(line).for_each(|(to, x)| *to = *x as f32);
            }
        }
        sink(&panel)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use xlac_ir::text;

    #[test]
    fn parts_add_up_to_the_number() {
        let wide = |bits: u16| f32::from_bits(u32::from(bits) << 16);
        for x in [0.0, -0.0, 1.0, 0.1, -std::f32::consts::PI, 1e-30, 1e30, f32::MAX, -f32::MAX, f32::MIN_POSITIVE, LARGEST] {
            let parts = split(x).map(wide);
            assert!(parts.iter().all(|p| p.is_finite()), "{x}: {parts:?}");
            assert_eq!(parts[2] + parts[1] + parts[0], x);
        }
        for x in [f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(split(x).map(wide), [x, 0.0, 0.0]);
        }
        assert!(wide(split(f32::from_bits(0x7f80_0001))[0]).is_nan());
    }

    #[test]
    fn pieces_of_eight_rows_lie_in_different_banks() {
        for (dtype, row) in [(DType::BF16, 16), (DType::BF16, 32), (DType::F16, 64), (DType::F16, 128), (DType::I8, 64)] {
            let swizzle = Swizzle::new(dtype, row);
            for piece in 0..swizzle.pieces {
                let banks = (0..8).map(|r| swizzle.at(r, piece * swizzle.piece) * dtype.size() / 16 % 8);
                let banks: std::collections::BTreeSet<usize> = banks.collect();
                assert_eq!(banks.len(), 8, "{dtype} in rows of {row}, piece {piece}");
            }
            let all: std::collections::BTreeSet<usize> = (0..16).flat_map(|r| (0..row).map(move |e| swizzle.at(r, e))).collect();
            assert_eq!(all.into_iter().collect::<Vec<_>>(), (0..16 * row).collect::<Vec<_>>());
        }
    }

    #[test]
    fn images_have_zeros_past_the_ends() {
        let data: Vec<Const> = (0..2 * 5 * 35).map(|i| Const::int(DType::I16, i)).collect();
        let tensor = Tensor::from_consts(DType::I16, vec![2, 5, 35], data);
        let images = Images { batch: vec![(2, 175)], lines: (5, 35), k: vec![(7, 5), (5, 1)], offset: 0, tile: (4, 32), planes: 1 };
        let blob = Blob { source: Source::Tensor(tensor), pack: Pack::Images(images), dtype: DType::I16 };
        let weights = text::parse("graph @g(%x: f32[1]) -> (%x) {\n  yield %x\n}\n").expect("well-formed").weights;
        let mut bytes = Vec::new();
        blob.write(&weights, |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), ()>(())
        }).expect("nothing fails");
        assert_eq!(bytes.len(), blob.bytes(&weights));
        let swizzle = Swizzle::new(DType::I16, 32);
        for (batch, tile, chunk, line, k) in [(0, 0, 0, 0, 0), (1, 0, 0, 3, 31), (1, 1, 1, 0, 2), (0, 1, 0, 1, 0), (0, 0, 1, 2, 3)] {
            let at = ((batch * 2 + tile) * 2 + chunk) * 128 + swizzle.at(line, k);
            let found = i64::from(i16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]));
            let (line, k) = (tile * 4 + line, chunk * 32 + k);
            let expected = if line < 5 && k < 35 { (batch * 175 + line * 35 + k) as i64 } else { 0 };
            assert_eq!(found, expected, "{batch} {tile} {chunk} {line} {k}");
        }
    }
}
