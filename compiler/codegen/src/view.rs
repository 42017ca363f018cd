//! Strided views: where each element of a value lies in its buffer.

use xlac_ir::dim::Dim;

/// Element `i` lies at `offset + sum of i[a] * strides[a]`, in elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// First element.
    pub offset: Dim,
    /// One stride per axis.
    pub strides: Vec<Dim>,
}

/// Physical order of the axes of a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// The last axis varies fastest.
    RowMajor,
    /// Axis 1 varies fastest, the others keep their order: NHWC for a value that is NCHW in the graph.
    ChannelsLast,
    /// The last two axes exchanged: how a view of one channel sees a channels-last value, the channels before the places.
    Exchanged,
}

impl Layout {
    /// Axes from the slowest to the fastest.
    pub fn order(self, rank: usize) -> Vec<usize> {
        match self {
            Layout::ChannelsLast if rank >= 3 => std::iter::once(0).chain(2..rank).chain([1]).collect(),
            Layout::Exchanged if rank >= 2 => (0..rank - 2).chain([rank - 1, rank - 2]).collect(),
            _ => (0..rank).collect(),
        }
    }
}

impl View {
    /// A dense view of a whole buffer.
    pub fn dense(shape: &[Dim], layout: Layout) -> View {
        let mut strides = vec![Dim::ONE; shape.len()];
        let mut stride = Dim::ONE;
        for axis in layout.order(shape.len()).into_iter().rev() {
            strides[axis] = stride.clone();
            stride = &stride * &shape[axis];
        }
        View { offset: Dim::ZERO, strides }
    }

    /// True if it is dense and row-major; strides of axes of size 1 do not matter.
    pub fn is_row_major(&self, shape: &[Dim]) -> bool {
        let dense = View::dense(shape, Layout::RowMajor);
        shape.iter().zip(self.strides.iter().zip(&dense.strides)).all(|(d, (a, b))| d.is(1) || a == b)
    }

    /// The view of a transposed value.
    pub fn transpose(&self, perm: &[usize]) -> View {
        View { offset: self.offset.clone(), strides: perm.iter().map(|&p| self.strides[p].clone()).collect() }
    }

    /// The view of a slice.
    pub fn slice(&self, starts: &[Dim], steps: &[i64]) -> View {
        let mut offset = self.offset.clone();
        for (start, stride) in starts.iter().zip(&self.strides) {
            offset = &offset + &(start * stride);
        }
        let strides = self.strides.iter().zip(steps).map(|(s, &step)| s * &Dim::from(step)).collect();
        View { offset, strides }
    }

    /// The view of a value broadcast from `from` to `to`, numpy's way.
    pub fn broadcast(&self, from: &[Dim], to: &[Dim]) -> View {
        let missing = to.len() - from.len();
        let strides = (0..to.len())
            .map(|a| match a.checked_sub(missing) {
                Some(i) if from[i] == to[a] || !from[i].is(1) => self.strides[i].clone(),
                _ => Dim::ZERO,
            })
            .collect();
        View { offset: self.offset.clone(), strides }
    }

    /// The view of a reshaped value, if strides can express it.
    pub fn reshape(&self, from: &[Dim], to: &[Dim]) -> Option<View> {
        // Axes of size 1 say nothing; group the others so that both sides have the same number of elements.
        let old: Vec<usize> = (0..from.len()).filter(|&a| !from[a].is(1)).collect();
        let new: Vec<usize> = (0..to.len()).filter(|&a| !to[a].is(1)).collect();
        let mut strides = vec![Dim::ZERO; to.len()];
        let (mut i, mut j) = (0, 0);
        while i < old.len() && j < new.len() {
            let (i0, j0) = (i, j);
            let mut a = from[old[i]].clone();
            let mut b = to[new[j]].clone();
            (i, j) = (i + 1, j + 1);
            while a != b {
                // Grow the side that is known to be smaller: a divisor of the other.
                let grow_old = i < old.len() && (j >= new.len() || divides(&a, &b) || !divides(&b, &a));
                if grow_old {
                    a = &a * &from[old[i]];
                    i += 1;
                } else if j < new.len() {
                    b = &b * &to[new[j]];
                    j += 1;
                } else {
                    return None;
                }
            }
            // The old axes must be contiguous among themselves.
            for k in i0..i - 1 {
                if self.strides[old[k]] != &self.strides[old[k + 1]] * &from[old[k + 1]] {
                    return None;
                }
            }
            let mut stride = self.strides[old[i - 1]].clone();
            for k in (j0..j).rev() {
                strides[new[k]] = stride.clone();
                stride = &stride * &to[new[k]];
            }
        }
        (i == old.len() && j == new.len()).then_some(View { offset: self.offset.clone(), strides })
    }
}

/// True if `b` is known to be a multiple of `a` other than `a` itself.
fn divides(a: &Dim, b: &Dim) -> bool {
    match (a.as_const(), b.as_const()) {
        (Some(a), Some(b)) => a != 0 && b % a == 0 && b > a,
        _ => !b.floor_div(a).is(0) && &(&b.floor_div(a) * a) == b,
    }
}

/// Merges neighbouring axes (outermost first) wherever every access allows it, and drops axes of size 1. `accesses[i][a]`
/// is the stride of access `i` along axis `a`.
pub fn coalesce(shape: &[Dim], accesses: &mut [Vec<Dim>]) -> Vec<Dim> {
    let mut dims: Vec<Dim> = Vec::new();
    let mut merged: Vec<Vec<Dim>> = vec![Vec::new(); accesses.len()];
    for (axis, dim) in shape.iter().enumerate() {
        if dim.is(1) {
            continue;
        }
        let fits = !dims.is_empty()
            && accesses.iter().zip(&merged).all(|(a, m)| m[m.len() - 1] == &a[axis] * dim);
        if fits {
            let last = dims.len() - 1;
            dims[last] = &dims[last] * dim;
            accesses.iter().zip(&mut merged).for_each(|(a, m)| m[last] = a[axis].clone());
        } else {
            dims.push(dim.clone());
            accesses.iter().zip(&mut merged).for_each(|(a, m)| m.push(a[axis].clone()));
        }
    }
    accesses.clone_from_slice(&merged);
    dims
}
