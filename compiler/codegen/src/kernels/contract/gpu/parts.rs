//! Sums in parts: where the tiles of a contraction are too few for the multiprocessors and its sums long, every tile's sum
//! is cut in parts of whole chunks. Each is stored in a workspace, `[part][batch][row][column]`; a second kernel adds them in
//! order and computes the epilogue, so that the result does not depend on which tile ends first.

use super::*;

/// Where the parts of a contraction go.
pub(super) struct Workspace {
    place: Place,
    /// Along parts, batch axes, rows and columns.
    strides: Vec<Dim>,
    parts: i64,
}

/// Columns a thread adds.
const LANES: u32 = 4;

impl Workspace {
    pub fn new(l: &mut Lowering, p: &Problem, parts: i64) -> Workspace {
        let lanes = Dim::from(i64::from(LANES));
        let width = &p.n.ceil_div(&lanes) * &lanes;
        let sizes = [&[Dim::from(parts)], &p.batch[..], &[p.m.clone(), width]].concat();
        let buffer = l.buffer(Storage::Temp, bytes(&sizes, p.acc));
        let view = View { offset: Dim::ZERO, strides: Vec::new() };
        Workspace { place: Place { buffer, view, dtype: p.acc }, strides: dense(&sizes, Dim::ONE), parts }
    }

    /// What the first kernel does with its sums.
    pub fn finish(&self, p: &Problem, finish: &Finish) -> Finish {
        Finish::store(finish.anchor(), p.acc, (&p.m, &p.n), self.place.clone(), self.strides.clone())
    }
}

/// Emits the second kernel.
pub(super) fn emit(l: &mut Lowering, p: &Problem, finish: &Finish, from: &Workspace) {
    let mut kb = Kb::new(&format!("{}_parts", p.name));
    let lanes = Dim::from(i64::from(LANES));
    let grid = [&p.batch[..], &[p.m.clone(), p.n.ceil_div(&lanes)]].concat();
    let number = kb.k.tile();
    let mut index = kb.unflatten(number, &grid);
    let group = index.pop().expect("columns");
    let column = kb.k.mul_int(group, LANES.into());
    index.push(column);
    let workspace = kb.read(&from.place);
    let bound = finish.bind(l.g, &mut kb);
    let at = kb.address(&index, &from.strides[1..]);
    let stride = kb.dim(&from.strides[0]);
    let mut sum = kb.k.load(workspace, at, 0, LANES, None);
    for part in 1..from.parts {
        let skip = kb.k.mul_int(stride, part);
        let at = kb.k.add(at, skip);
        let x = kb.k.load(workspace, at, 0, LANES, None);
        sum = kb.k.add(sum, x);
    }
    let row = index[p.batch.len()];
    let edges = Edges { rows: false, columns: !multiple(&p.n, LANES.into()) };
    bound.row(&mut kb, &index[..p.batch.len()], row, &[(column, sum)], edges);
    let tiles = Dim::product(&grid);
    let elements = &tiles * &lanes;
    let traffic = &elements * &Dim::from(p.acc.size() as i64 * from.parts + finish.bytes);
    let flops = &elements * &Dim::from(from.parts);
    l.launch(kb, tiles, Cost { tile_ns: Dim::from(20i64), flops, traffic }, &p.loc);
}
