//! What is stored around the spatial axes of a channels-last place: zeros, or another padding, that windows then read in place.
//!
//! All sides are one kernel, because each is little work: a launch would cost as much.

use super::*;

/// Widths of a border before and after each spatial axis.
pub type Widths<'a> = (&'a [Dim], &'a [Dim]);

/// Emits a kernel that stores `value` around the spatial axes of a channels-last place of this shape, border included.
pub fn border(l: &mut Lowering, shape: &[Dim], place: &Place, (before, after): Widths, value: Const) {
    if shape.iter().any(|d| d.is(0)) || before.iter().chain(after).all(|d| d.is(0)) {
        return;
    }
    let mut kb = Kb::new("border");
    let buf = kb.write(place);
    let lanes = fit_lanes((l.target.vector_bytes / place.dtype.size() as u32).max(1), shape.get(1), l.target.masked_memory);
    let b = Border { shape, place, before, after, value, buf, lanes, walk: l.walk() };
    let tiles = if l.walk().fine { b.each_element(&mut kb) } else { b.sides(&mut kb) };
    let traffic = &Dim::product(shape) * &Dim::from(place.dtype.size());
    l.launch(kb, tiles, Cost { tile_ns: Dim::ONE, flops: Dim::ZERO, traffic }, &Loc::default());
}

struct Border<'a> {
    shape: &'a [Dim],
    place: &'a Place,
    before: &'a [Dim],
    after: &'a [Dim],
    value: Const,
    buf: Buf,
    lanes: u32,
    walk: Walk,
}

impl Border<'_> {
    /// Every vector looks where it lies: for the threads of a GPU. Returns the number of tiles.
    fn each_element(&self, kb: &mut Kb) -> Dim {
        let order: Vec<usize> = std::iter::once(0).chain(2..self.shape.len()).chain([1]).collect();
        let dims: Vec<Dim> = order.iter().map(|&a| self.shape[a].clone()).collect();
        let strides: Vec<Dim> = order.iter().map(|&a| self.place.view.strides[a].clone()).collect();
        nest(kb, &dims, self.lanes, self.walk, |kb, index, lanes, count| {
            let mut inside = kb.k.constant(Const::bool(true));
            for (s, (before, after)) in self.before.iter().zip(self.after).enumerate() {
                let (lo, hi) = (kb.dim(before), kb.dim(&(&dims[1 + s] - after)));
                let within = kb.within(index[1 + s], lo, hi);
                inside = if s == 0 { within } else { kb.k.bin(BinOp::And, inside, within) };
            }
            let mut open = kb.k.begin_if(inside);
            kb.k.begin_else(&mut open, &[]);
            let at = kb.address(&index, &strides);
            self.store(kb, at, lanes, count);
            kb.k.end_if(open, &[]);
        })
    }

    /// A tile an image: two sides along each axis, those of later axes without what earlier ones cover. Returns the number
    /// of tiles.
    fn sides(&self, kb: &mut Kb) -> Dim {
        let strides = &self.place.view.strides;
        let mut inside: Vec<Dim> = self.shape[2..].to_vec();
        let mut start = Dim::ZERO;
        for (s, (before, after)) in self.before.iter().zip(self.after).enumerate() {
            let end = &inside[s] - after;
            for (from, width) in [(&Dim::ZERO, before), (&end, after)] {
                let mut side = inside.clone();
                side[s] = width.clone();
                self.side(kb, &side, &(&start + &(from * &strides[2 + s])));
            }
            start = &start + &(before * &strides[2 + s]);
            inside[s] = &end - before;
        }
        self.shape[0].clone()
    }

    /// A side of these sizes along the spatial axes, which begins `start` elements into the image.
    fn side(&self, kb: &mut Kb, sizes: &[Dim], start: &Dim) {
        if sizes.iter().any(|d| d.is(0)) {
            return;
        }
        let view = &self.place.view.strides;
        let mut strides = [[&view[2..], &view[1..2]].concat()];
        let mut dims = coalesce(&[sizes, &self.shape[1..2]].concat(), &mut strides);
        let [mut strides] = strides;
        if dims.is_empty() {
            // A single element.
            (dims, strides) = (vec![Dim::ONE], vec![Dim::ONE]);
        }
        let (inner, outer) = dims.split_last().expect("at least one axis");
        let image = kb.k.tile();
        let image = kb.address(&[image], &view[..1]);
        let start = kb.dim(start);
        let first = kb.k.add(image, start);
        let loops = kb.begin_loops(outer);
        let index: Vec<Val> = loops.iter().map(|open| open.var).collect();
        let row = kb.address(&index, &strides);
        let row = kb.k.add(first, row);
        let (zero, n) = (kb.k.int(0), kb.dim(inner));
        let lanes = if strides.last().is_some_and(|s| s.is(1)) { self.lanes } else { 1 };
        let exact = inner.as_const().is_some_and(|n| n % i64::from(lanes) == 0);
        let step = kb.dim(strides.last().expect("an inner axis"));
        vector_loop(kb, (zero, n, exact), lanes, self.walk.masked, |kb, i, lanes, count| {
            let skip = kb.k.mul(i, step);
            let at = kb.k.add(row, skip);
            self.store(kb, at, lanes, count);
        });
        kb.end_loops(loops);
    }

    fn store(&self, kb: &mut Kb, at: Val, lanes: u32, count: Option<Val>) {
        let x = kb.k.splat_const(self.value, lanes);
        let x = kb.k.convert(x, self.place.dtype);
        kb.k.store(self.buf, at, 0, x, count);
    }
}
