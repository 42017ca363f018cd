//! What becomes of the sums: operands of the epilogue are bound to a kernel, results computed and stored in short vectors
//! of neighbouring columns.

use super::*;

/// Strides along batch axes, row axes and columns, one after the other.
type Strides = Vec<Dim>;

/// An epilogue before it is bound to a kernel.
pub(super) struct Finish {
    anchor: ValueId,
    /// Element type sums are rounded to.
    dtype: DType,
    /// Row axes of the results.
    rows: Vec<Dim>,
    /// Number of rows and columns.
    pub m: Dim,
    pub n: Dim,
    constants: HashMap<ValueId, Leaf>,
    reads: Vec<(ValueId, Place, Strides)>,
    exits: Vec<(ValueId, Place, Strides)>,
    /// Bytes read and written for each element.
    pub bytes: i64,
}

/// An epilogue in a kernel.
pub(super) struct Bound<'a> {
    finish: &'a Finish,
    g: &'a Graph,
    leaves: HashMap<ValueId, Leaf>,
    outs: Vec<Out>,
}

impl Finish {
    pub fn new(l: &mut Lowering, c: &Contraction, mut e: Epilogue) -> Finish {
        let (constants, read) = operands_of(l, c, &mut e);
        let sizes = |role: Role| c.axes.iter().filter(move |x| x.role == role).map(|x| x.size.clone()).collect::<Vec<_>>();
        let views = e.exits.iter().map(|e| &e.1.view).chain(read.iter().map(|r| &r.1.view));
        let access: Vec<EpilogueAccess> = views.map(|v| epilogue_access(&c.axes, v)).collect();
        let mut rows: Vec<Vec<Dim>> = access.iter().map(|a| a.rows.clone()).collect();
        let m = Dim::product(&sizes(Role::Row));
        let dims = coalesce(&sizes(Role::Row), &mut rows);
        let mut strides = access.iter().zip(&rows).map(|(a, rows)| [&a.batch[..], rows, std::slice::from_ref(&a.col)].concat());
        let bytes = e.exits.iter().map(|e| &e.1).chain(read.iter().map(|r| &r.1)).map(|p| p.dtype.size() as i64).sum();
        let exits = e.exits.into_iter().zip(strides.by_ref()).map(|((v, p), s)| (v, p, s)).collect();
        let reads = read.into_iter().zip(strides).map(|((v, p), s)| (v, p, s)).collect();
        Finish { anchor: e.anchor, dtype: e.dtype, rows: dims, m, n: sizes(Role::Col)[0].clone(), constants, reads, exits, bytes }
    }

    /// An epilogue that stores the sums as they are, at these strides along the batch axes, rows and columns.
    pub fn store(anchor: ValueId, dtype: DType, (m, n): (&Dim, &Dim), place: Place, strides: Strides) -> Finish {
        let exits = vec![(anchor, place, strides)];
        let bytes = dtype.size() as i64;
        Finish { anchor, dtype, rows: vec![m.clone()], m: m.clone(), n: n.clone(), constants: HashMap::new(), reads: Vec::new(), exits, bytes }
    }

    pub fn anchor(&self) -> ValueId { self.anchor }

    pub fn bind<'a>(&'a self, g: &'a Graph, kb: &mut Kb) -> Bound<'a> {
        let outs = self.exits.iter().map(|(v, place, s)| (*v, kb.write(place), place.dtype, s.clone())).collect();
        let mut leaves = self.constants.clone();
        for (v, place, strides) in &self.reads {
            let buf = kb.read(place);
            leaves.insert(*v, Leaf::Buffer { buf, strides: strides.clone(), dtype: g.ty(*v).dtype });
        }
        Bound { finish: self, g, leaves, outs }
    }
}

impl Bound<'_> {
    /// True if 8 neighbouring results are no more than 16 bytes.
    pub fn narrow(&self) -> bool { self.outs.iter().all(|o| o.2.size() <= 2) }

    /// Computes and stores what follows from vectors of sums of one row, each with its first column. `edges` says whether
    /// the row or the columns may lie outside.
    pub fn row(&self, kb: &mut Kb, batch: &[Val], row: Val, sums: &[(Val, Val)], edges: Edges) {
        let f = self.finish;
        let inside = edges.rows.then(|| {
            let m = kb.dim(&f.m);
            kb.k.cmp(Pred::Lt, row, m)
        });
        let store = |kb: &mut Kb| {
            let rows = kb.unflatten(row, &f.rows);
            for &(col, sum) in sums {
                let lanes = kb.k.ty(sum).lanes;
                let count = edges.columns.then(|| {
                    let n = kb.dim(&f.n);
                    kb.k.sub(n, col)
                });
                let value = kb.k.convert(sum, f.dtype);
                let index = [batch, &rows[..], &[col]].concat();
                let known = HashMap::from([(f.anchor, value)]);
                let mut point = Point { g: self.g, leaves: &self.leaves, index, lanes, count, known };
                point.store(kb, &self.outs);
            }
        };
        match inside {
            Some(inside) => when(kb, inside, store),
            None => store(kb),
        }
    }
}

/// Which results of a tile may not exist.
#[derive(Clone, Copy)]
pub(super) struct Edges {
    pub rows: bool,
    pub columns: bool,
}

impl Edges {
    /// Edges of tiles of this size.
    pub fn of(m: &Dim, n: &Dim, rows: i64, columns: i64) -> Edges {
        Edges { rows: !multiple(m, rows), columns: !multiple(n, columns) }
    }
}
