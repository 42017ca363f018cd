//! Panels of the second operand: packed at compile time if it is constant, by a kernel otherwise.

use super::*;

/// Brings the second operand into panels: at compile time if it is constant, else with a kernel, unless it can be read
/// in place. Returns its place, batch strides, panel stride and the stride from step to step of the sum. With `quads` a
/// step is four terms: `[batch][panel][k / 4][nr][4]`, in the operand's own type.
pub(super) fn pack_second(
    l: &mut Lowering,
    second: &Second,
    ks: &[(Dim, Dim)],
    cols: &Dim,
    tile: Tile,
    batch: &[Dim],
    acc: DType,
    quads: bool,
) -> (Place, Vec<Dim>, Dim, i64) {
    let Second::View { place, batch: b_batch, k: b_k, n } = second;
    let nr = tile.nr();
    let k_sizes: Vec<Dim> = ks.iter().map(|k| k.0.clone()).collect();
    let mut steps = k_sizes.clone();
    let (mut pitch, mut dtype) = (nr, acc);
    if quads {
        let last = steps.last_mut().expect("a sum has an axis");
        *last = last.ceil_div(&Dim::from(4i64));
        (pitch, dtype) = (4 * nr, place.dtype);
    }
    let panels = cols.ceil_div(&Dim::from(nr));
    let panel = &Dim::product(&steps) * &Dim::from(pitch);
    let batch_strides = |batch: &[Dim]| {
        let mut strides = vec![Dim::ZERO; batch.len()];
        let mut s = &panels * &panel;
        for i in (0..batch.len()).rev() {
            strides[i] = s.clone();
            s = &s * &batch[i];
        }
        strides
    };
    if let Some(blob) = packed_blob(l, place, b_batch, b_k, n, &k_sizes, cols, nr, batch, dtype, quads) {
        let buffer = l.blob(blob);
        let view = View { offset: Dim::ZERO, strides: Vec::new() };
        return (Place { buffer, view, dtype }, batch_strides(batch), panel, pitch);
    }
    let whole = cols.as_const().is_some_and(|c| c % nr == 0);
    if let ([k], true, true, Some(step)) = (&b_k[..], n.is(1), whole && place.dtype == acc && !quads, b_k[0].as_const()) {
        let _ = k;
        return (place.clone(), b_batch.clone(), Dim::from(nr), step);
    }
    let dims = [batch, &[panels.clone()], &steps].concat();
    let buffer = l.buffer(Storage::Temp, &bytes(&dims, dtype) * &Dim::from(pitch));
    let packed = Place { buffer, view: View { offset: Dim::ZERO, strides: Vec::new() }, dtype };
    let terms = quads.then(|| k_sizes.last().expect("a sum has an axis").clone());
    pack_kernel(l, place, b_batch, b_k, n, &packed, &dims, batch.len(), cols, tile, terms);
    (packed, batch_strides(batch), panel, pitch)
}

/// The recipe for a constant second operand.
#[allow(clippy::too_many_arguments)]
pub(super) fn packed_blob(
    l: &Lowering,
    place: &Place,
    b_batch: &[Dim],
    b_k: &[Dim],
    n: &Dim,
    k_sizes: &[Dim],
    cols: &Dim,
    nr: i64,
    batch: &[Dim],
    dtype: DType,
    quads: bool,
) -> Option<Blob> {
    let Storage::Blob(index) = l.plan.buffers[place.buffer.0 as usize].storage else { return None };
    let source = l.plan.blobs[index as usize].source.clone();
    let size = |d: &Dim| d.as_const().and_then(|c| usize::try_from(c).ok());
    let cols = size(cols)?;
    let (nr, panels) = (nr as usize, cols.div_ceil(nr as usize));
    let mut shape: Vec<usize> = batch.iter().map(size).collect::<Option<_>>()?;
    let mut strides: Vec<usize> = b_batch.iter().map(size).collect::<Option<_>>()?;
    let n = size(n)?;
    let panel_axis = shape.len();
    shape.push(panels);
    strides.push(n * nr);
    shape.extend(k_sizes.iter().map(size).collect::<Option<Vec<_>>>()?);
    strides.extend(b_k.iter().map(size).collect::<Option<Vec<_>>>()?);
    let lane_axis = shape.len();
    shape.push(nr);
    strides.push(n);
    let mut limits = vec![(panel_axis, lane_axis, cols)];
    if quads {
        // Steps of four terms, which lie side by side for each column; past the last term are zeros.
        let terms = shape[lane_axis - 1];
        shape[lane_axis - 1] = terms.div_ceil(4);
        shape.push(4);
        strides.push(strides[lane_axis - 1]);
        strides[lane_axis - 1] *= 4;
        limits.push((lane_axis - 1, lane_axis + 1, terms));
    }
    let offset = size(&place.view.offset)?;
    let pack = Pack::Strided(Strided { shape, strides, offset, limits });
    Some(Blob { source, pack, dtype })
}

/// Packs a computed second operand; in steps of four along the innermost axis of `terms`, if that is given.
#[allow(clippy::too_many_arguments)]
fn pack_kernel(
    l: &mut Lowering,
    place: &Place,
    b_batch: &[Dim],
    b_k: &[Dim],
    n: &Dim,
    packed: &Place,
    dims: &[Dim],
    batch: usize,
    cols: &Dim,
    tile: Tile,
    terms: Option<Dim>,
) {
    let nr = tile.nr();
    let width = if terms.is_some() { 4 } else { 1 };
    let mut kb = Kb::new("pack");
    let from = kb.read(place);
    let to = kb.write(packed);
    let mut strides: Vec<Dim> = b_batch.iter().cloned().chain([n * &Dim::from(nr)]).chain(b_k.iter().cloned()).collect();
    let term = strides.last().expect("a sum has an axis").clone();
    *strides.last_mut().expect("a sum has an axis") = &term * &Dim::from(width);
    let dense = View::dense(dims, Layout::RowMajor).strides;
    let dense: Vec<Dim> = dense.iter().map(|s| s * &Dim::from(nr * width)).collect();
    // A tile packs a panel: one index over batch and panel.
    let outer = &dims[..batch + 1];
    let number = kb.k.tile();
    let mut index = kb.unflatten(number, outer);
    let first = kb.k.mul_int(index[batch], nr);
    let cols = kb.dim(cols);
    let valid = kb.k.sub(cols, first);
    let loops = kb.begin_loops(&dims[batch + 1..]);
    index.extend(loops.iter().map(|o| o.var));
    let at = kb.address(&index, &strides);
    let stride = kb.dim(n);
    for v in 0..i64::from(tile.nv) {
        let shift = v * i64::from(tile.lanes);
        let skip = kb.k.mul_int(stride, shift);
        let at = kb.k.add(at, skip);
        let count = kb.k.add_int(valid, -shift);
        let x = match &terms {
            Some(terms) => {
                let step = *index.last().expect("a sum has an axis");
                four_terms(&mut kb, from, (at, &term), stride, (step, terms), (tile.lanes, count))
            }
            None => kb.k.load_strided(from, at, stride, tile.lanes, Some(count)),
        };
        let x = kb.k.convert(x, packed.dtype);
        let there = kb.address(&index, &dense);
        kb.k.store(to, there, shift * width, x, None);
    }
    kb.end_loops(loops);
    let tiles = Dim::product(outer);
    let traffic = &(&Dim::product(dims) * &Dim::from(nr * width)) * &Dim::from(8i64);
    let tile_ns = traffic.floor_div(&Dim::from(8i64)).floor_div(&tiles.at_least(&Dim::ONE));
    l.launch(kb, tiles, Cost { tile_ns, flops: Dim::ZERO, traffic }, &Default::default());
}

/// Four terms of some columns, those of a column side by side: `(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), ...` by term and
/// column. Terms past the last are zero.
fn four_terms(
    kb: &mut Kb,
    from: Buf,
    (at, term): (Val, &Dim),
    stride: Val,
    (step, terms): (Val, &Dim),
    (lanes, count): (u32, Val),
) -> Val {
    let (zero, all) = (kb.k.int(0), kb.dim(terms));
    let distance = kb.dim(term);
    let first = kb.k.mul_int(step, 4);
    let four: Vec<Val> = (0..4).map(|i| {
        let number = kb.k.add_int(first, i);
        let exists = kb.k.cmp(Pred::Lt, number, all);
        let count = kb.k.select(exists, count, zero);
        let shift = kb.k.mul_int(distance, i);
        let at = kb.k.add(at, shift);
        kb.k.load_strided(from, at, stride, lanes, Some(count))
    }).collect();
    // Pairs of elements, then pairs of pairs.
    let mut zip = |a: Val, b: Val, lanes: u32, run: u32| {
        let picks: Vec<u32> = (0..lanes / run).flat_map(|i| (0..2).flat_map(move |of| (0..run).map(move |j| of * lanes + i * run + j))).collect();
        kb.k.permute(a, b, &picks)
    };
    let (low, high) = (zip(four[0], four[1], lanes, 1), zip(four[2], four[3], lanes, 1));
    zip(low, high, 2 * lanes, 2)
}
