//! Panels of the second operand: packed at compile time if it is constant, by a kernel otherwise.

use super::*;

/// Brings the second operand into panels: at compile time if it is constant, else with a kernel, unless it can be read
/// in place. Returns its place, batch strides, panel stride and k stride.
pub(super) fn pack_second(
    l: &mut Lowering,
    second: &Second,
    ks: &[(Dim, Dim)],
    cols: &Dim,
    tile: Tile,
    batch: &[Dim],
    acc: DType,
) -> (Place, Vec<Dim>, Dim, i64) {
    let Second::View { place, batch: b_batch, k: b_k, n } = second;
    let nr = tile.nr();
    let k_sizes: Vec<Dim> = ks.iter().map(|k| k.0.clone()).collect();
    let k_total = Dim::product(&k_sizes);
    let panels = cols.ceil_div(&Dim::from(nr));
    let panel = &k_total * &Dim::from(nr);
    let batch_strides = |batch: &[Dim]| {
        let mut strides = vec![Dim::ZERO; batch.len()];
        let mut s = &panels * &panel;
        for i in (0..batch.len()).rev() {
            strides[i] = s.clone();
            s = &s * &batch[i];
        }
        strides
    };
    if let Some(blob) = packed_blob(l, place, b_batch, b_k, n, &k_sizes, cols, nr, batch, acc) {
        let buffer = l.blob(blob);
        let view = View { offset: Dim::ZERO, strides: Vec::new() };
        return (Place { buffer, view, dtype: acc }, batch_strides(batch), panel, nr);
    }
    let whole = cols.as_const().is_some_and(|c| c % nr == 0);
    if let ([k], true, true, Some(step)) = (&b_k[..], n.is(1), whole && place.dtype == acc, b_k[0].as_const()) {
        let _ = k;
        return (place.clone(), b_batch.clone(), Dim::from(nr), step);
    }
    let dims = [batch, &[panels.clone()], &k_sizes].concat();
    let buffer = l.buffer(Storage::Temp, &bytes(&dims, acc) * &Dim::from(nr));
    let packed = Place { buffer, view: View { offset: Dim::ZERO, strides: Vec::new() }, dtype: acc };
    pack_kernel(l, place, b_batch, b_k, n, &packed, &dims, batch.len(), cols, tile, acc);
    (packed, batch_strides(batch), panel, nr)
}

/// The recipe for a constant second operand.
#[allow(clippy::too_many_arguments)]
fn packed_blob(
    l: &Lowering,
    place: &Place,
    b_batch: &[Dim],
    b_k: &[Dim],
    n: &Dim,
    k_sizes: &[Dim],
    cols: &Dim,
    nr: i64,
    batch: &[Dim],
    acc: DType,
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
    let offset = size(&place.view.offset)?;
    let pack = Pack::Strided(Strided { shape, strides, offset, limit: Some((panel_axis, lane_axis, cols)) });
    Some(Blob { source, pack, dtype: acc })
}

/// Packs a computed second operand.
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
    acc: DType,
) {
    let nr = tile.nr();
    let mut kb = Kb::new("pack");
    let from = kb.read(place);
    let to = kb.write(packed);
    let strides: Vec<Dim> = b_batch.iter().cloned().chain([n * &Dim::from(nr)]).chain(b_k.iter().cloned()).collect();
    let dense = View::dense(dims, Layout::RowMajor).strides;
    let dense: Vec<Dim> = dense.iter().map(|s| s * &Dim::from(nr)).collect();
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
        let x = kb.k.load_strided(from, at, stride, tile.lanes, Some(count));
        let x = kb.k.convert(x, acc);
        let there = kb.address(&index, &dense);
        kb.k.store(to, there, shift, x, None);
    }
    kb.end_loops(loops);
    let tiles = Dim::product(outer);
    let traffic = &(&Dim::product(dims) * &Dim::from(nr)) * &Dim::from(8i64);
    let tile_ns = traffic.floor_div(&Dim::from(8i64)).floor_div(&tiles.at_least(&Dim::ONE));
    l.launch(kb, tiles, Cost { tile_ns, flops: Dim::ZERO, traffic }, &Default::default());
}
