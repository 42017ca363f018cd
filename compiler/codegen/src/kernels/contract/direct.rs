//! The direct sum: which register tile it takes, and its kernel.

use super::*;

/// How a direct sum is made.
pub(super) struct DirectPlan {
    pub tile: Tile,
    /// Nested sum axes of the steps.
    k: Vec<(Dim, Dim)>,
    quads: Option<Quads>,
    matrices: Option<Matrices>,
    extra: Extra,
}

impl DirectPlan {
    /// The plan of least estimated time.
    pub fn new(l: &Lowering, c: &Contraction, form: &Form) -> DirectPlan {
        let quads = Quads::of(l.target, c);
        let k = quads.as_ref().map_or_else(|| merge_k(&c.k), |q| q.steps(&c.k));
        let meet = rows_meet(&form.a_rows, &k, c.a.dtype);
        let steps = Dim::product(k.iter().map(|k| &k.0));
        let extra = quads.as_ref().map_or(Extra::default(), Quads::registers);
        let row = form.rows.last().expect("at least one");
        let (time, tile) = choose_tile(l, row, &form.cols, &steps, c.acc, meet, extra);
        let terms = quads.as_ref().and_then(|q| q.terms(&k));
        let by_matrices = terms.and_then(|terms| Matrices::of(l.target, row, &form.cols, &k, terms, meet));
        let (tile, matrices) = match by_matrices {
            Some((less, tile, matrices)) if less < time => (tile, Some(matrices)),
            _ => (tile, None),
        };
        DirectPlan { tile, k, quads, matrices, extra }
    }

    /// Emits and launches the sum.
    pub fn emit(self, l: &mut Lowering, c: &Contraction, form: &Form) {
        let DirectPlan { tile, k, quads, mut matrices, extra } = self;
        let k_total = Dim::product(c.k.iter().map(|k| &k.0));
        let (b_place, b_batch, b_panel, b_k) = pack_second(l, &c.b, &c.k, &form.cols, tile, &form.batch, c.acc, quads.is_some());
        let mut kb = Kb::new(&form.name);
        let a = kb.read(&c.a);
        let panels = Panels { buf: kb.read(&b_place), batch: b_batch, panel: b_panel, k: b_k };
        let (leaves, outs) = form.bind(&mut kb);
        if let Some(matrices) = matrices.as_mut().filter(|m| m.copies()) {
            matrices.edge = Some(kb.scratch("edge", c.a.dtype, &Dim::from(Matrices::edge_len())));
        }
        let tile_len = Dim::from(i64::from(tile.mr) * tile.nr());
        let spill = (matrices.is_some() || form.work > INLINE_EPILOGUE && tile.mr > 1).then(|| kb.scratch("tile", c.acc, &tile_len));
        let long = hint(&k_total) >= CHAIN && c.acc.is_float() && !l.exact();
        let far = hint(&(&form.cols * &k_total)) * c.acc.size() as i64 >= l.target.cache_bytes[1] as i64;
        let totals = long.then(|| kb.scratch("totals", c.acc, &tile_len));
        // The first axis is a batch if others follow it.
        let first = c.axes.first().filter(|_| c.axes.len() > 2);
        let unroll = unroll(l, tile, &k, extra);
        let e = Emitter {
            g: l.g,
            anchor: form.anchor,
            sole: first.and_then(|x| x.size.as_symbol()).cloned(),
            batch: form.batch.clone(),
            rows: form.rows.clone(),
            cols: form.cols.clone(),
            a_batch: c.axes.iter().filter(|x| x.role == Role::Batch).map(|x| x.a.clone()).collect(),
            a_rows: form.a_rows.clone(),
            sum: sum::Sum {
                from: a, panels: panels.buf, tile, acc: c.acc, unroll, k, pitch: panels.k, totals, far, quads, matrices, fip: false,
            },
            panels,
            dtype: form.dtype,
            tile,
            leaves,
            outs,
            spill,
        };
        let elements = Dim::product(c.axes.iter().map(|x| &x.size));
        let macs = &elements * &k_total;
        let tiles = e.emit(&mut kb, &k_total);
        let flops = &macs * &Dim::from(2i64);
        let traffic = &(&elements * &Dim::from(4 * form.values())) + &operand_bytes(&e, &k_total);
        // About 16 multiply-adds a nanosecond for every 16 bytes of vector.
        let faster = match (&e.sum.matrices, &e.sum.quads) {
            (Some(_), _) => 8,
            (None, Some(_)) => 2,
            (None, None) => 1,
        };
        let rate = i64::from(l.target.vector_bytes.max(16)) * 3 / 4 * faster;
        let tile_ns = macs.floor_div(&Dim::from(rate)).floor_div(&tiles.at_least(&Dim::ONE));
        l.launch(kb, tiles, Cost { tile_ns, flops, traffic }, &form.loc);
    }
}

/// Everything the loops need.
pub(super) struct Emitter<'a> {
    pub g: &'a Graph,
    pub anchor: ValueId,
    /// Symbol of a batch, which is mostly of one.
    pub sole: Option<Symbol>,
    pub batch: Vec<Dim>,
    pub rows: Vec<Dim>,
    pub cols: Dim,
    pub a_batch: Vec<Dim>,
    pub a_rows: Vec<Dim>,
    pub panels: Panels,
    pub sum: sum::Sum,
    pub dtype: DType,
    pub tile: Tile,
    pub leaves: HashMap<ValueId, Leaf>,
    pub outs: Vec<Out>,
    pub spill: Option<Buf>,
}

fn operand_bytes(e: &Emitter, k: &Dim) -> Dim {
    let four = Dim::from(4i64);
    let batch = Dim::product(&e.batch);
    let a = &Dim::product(&e.rows) * k;
    let b = &e.cols * k;
    &(&batch * &(&a + &b)) * &four
}
