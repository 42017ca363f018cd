//! The loops of a contraction, and what becomes of its elements there: the same for every way to sum.

use super::sum::CACHE_LINE;
use super::*;

/// A value read or written by the epilogue: strides along batch axes, row axes and the column axis.
pub(super) struct EpilogueAccess {
    pub batch: Vec<Dim>,
    pub rows: Vec<Dim>,
    pub col: Dim,
}

pub(super) fn epilogue_access(axes: &[Axis], view: &View) -> EpilogueAccess {
    let of = |role: Role| axes.iter().filter(move |x| x.role == role).map(|x| &view.strides[x.axis] * &x.step);
    EpilogueAccess { batch: of(Role::Batch).collect(), rows: of(Role::Row).collect(), col: of(Role::Col).next().expect("one column axis") }
}

/// A contraction's loops, and what becomes of its elements there.
pub(super) struct Form {
    pub anchor: ValueId,
    /// Element type the sums are rounded to.
    pub dtype: DType,
    pub name: String,
    pub loc: Loc,
    /// Sizes of the loops, the row axes merged where they can be.
    pub batch: Vec<Dim>,
    pub rows: Vec<Dim>,
    pub cols: Dim,
    /// Strides of the first operand along the row axes.
    pub a_rows: Vec<Dim>,
    /// Cost of the elementwise nodes that follow.
    pub work: u32,
    /// Constant operands of those.
    pub leaves: HashMap<ValueId, Leaf>,
    /// Results and other operands, with their strides along the loops; operands have a type of their own.
    pub exits: Vec<(ValueId, Place, Vec<Dim>)>,
    pub read: Vec<(ValueId, Place, Vec<Dim>, DType)>,
}

impl Form {
    pub fn new(l: &Lowering, c: &Contraction, epilogue: Epilogue, leaves: HashMap<ValueId, Leaf>, read: Vec<(ValueId, Place)>) -> Form {
        let Epilogue { anchor, dtype, members, exits, name, loc, .. } = epilogue;
        let size = |role: Role| c.axes.iter().filter(move |x| x.role == role).map(|x| x.size.clone()).collect::<Vec<_>>();
        let views = exits.iter().map(|e| &e.1.view).chain(read.iter().map(|r| &r.1.view));
        let access: Vec<EpilogueAccess> = views.map(|v| epilogue_access(&c.axes, v)).collect();
        let a_rows = c.axes.iter().filter(|x| x.role == Role::Row).map(|x| x.a.clone()).collect();
        let mut row_access: Vec<Vec<Dim>> = std::iter::once(a_rows).chain(access.iter().map(|a| a.rows.clone())).collect();
        let mut rows = coalesce(&size(Role::Row), &mut row_access);
        if rows.is_empty() {
            rows.push(Dim::ONE);
            row_access.iter_mut().for_each(|a| a.push(Dim::ZERO));
        }
        let mut row_access = row_access.into_iter();
        let a_rows = row_access.next().expect("the first operand's");
        let mut strides = access.iter().zip(row_access).map(|(a, rows)| [&a.batch[..], &rows, std::slice::from_ref(&a.col)].concat());
        let mut next = || strides.next().expect("one for each access");
        let exits = exits.into_iter().map(|(v, place)| (v, place, next())).collect();
        let read = read.into_iter().map(|(v, place)| (v, place, next(), l.g.ty(v).dtype)).collect();
        let work = members.iter().map(|&n| group::cost(&l.g.node(n).op)).sum();
        Form { anchor, dtype, name, loc, batch: size(Role::Batch), rows, cols: size(Role::Col)[0].clone(), a_rows, work, leaves, exits, read }
    }

    /// Parameters of a kernel for operands and results of the epilogue.
    pub fn bind(&self, kb: &mut Kb) -> (HashMap<ValueId, Leaf>, Vec<Out>) {
        let outs = self.exits.iter().map(|(v, place, strides)| (*v, kb.write(place), place.dtype, strides.clone())).collect();
        let mut leaves = self.leaves.clone();
        let read = self.read.iter().map(|(v, place, strides, dtype)| (*v, Leaf::Buffer { buf: kb.read(place), strides: strides.clone(), dtype: *dtype }));
        leaves.extend(read);
        (leaves, outs)
    }

    /// The cost of a product that an algorithm makes of constant weights of some bytes, at so many operations a nanosecond. Its
    /// operations are the product's, not the algorithm's: rates compare with those of other kernels.
    pub fn product_cost(&self, (terms, cols): (i64, i64), weight_bytes: &Dim, rate: i64, tiles: &Dim) -> Cost {
        let count = Dim::product(&self.rows);
        let flops = &count * &Dim::from(2 * terms * cols);
        let traffic = &(&count * &Dim::from(4 * (terms + cols * self.values()))) + weight_bytes;
        let tile_ns = flops.floor_div(&Dim::from(rate)).floor_div(&tiles.at_least(&Dim::ONE));
        Cost { tile_ns, flops, traffic }
    }

    /// Values that the epilogue reads and writes for each element.
    pub fn values(&self) -> i64 { (self.exits.len() + self.read.len()) as i64 }
}

/// Buffers that an epilogue reads and writes along the columns without gaps, with their strides, in an order that does not change
/// from one compilation to the next.
pub(super) fn lines<'a>(leaves: &'a HashMap<ValueId, Leaf>, outs: &'a [Out]) -> Vec<(Buf, &'a [Dim])> {
    let read = leaves.iter().filter_map(|(v, leaf)| match leaf {
        Leaf::Buffer { buf, strides, .. } => Some((*v, *buf, &strides[..])),
        Leaf::Const(_) => None,
    });
    let mut all: Vec<(ValueId, Buf, &[Dim])> = read.chain(outs.iter().map(|o| (o.0, o.1, &o.3[..]))).collect();
    all.retain(|(_, _, strides)| strides.last().is_some_and(|s| s.is(1)));
    all.sort_by_key(|access| access.0);
    all.into_iter().map(|(_, buf, strides)| (buf, strides)).collect()
}

/// Fetches so many elements from one on.
pub(super) fn fetch(kb: &mut Kb, buf: Buf, first: Val, elements: i64) {
    let line = CACHE_LINE / kb.k.buf_dtype(buf).size() as i64;
    (0..elements).step_by(line as usize).for_each(|shift| kb.k.prefetch(buf, first, shift));
}
