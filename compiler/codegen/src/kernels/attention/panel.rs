//! Blocks of rows in shared memory, as tensor cores read them.
//!
//! A row is padded with zeros to a multiple of 16 elements and starts 16 bytes further than the one before ends, so that
//! the eight rows `ldmatrix` reads lie in different banks. Narrow floats are stored as they are, by asynchronous copies
//! where 16 bytes of memory are 16 bytes of a row; f32 is split into three planes of bf16 whose sum it is.
//!
//! Rows beyond the end of the matrix are copies of its last one: what they give counts for nothing.

use super::*;

/// Bytes of a copy or load.
const COPY_BYTES: i64 = 16;
/// Elements between the end of a row and the start of the next.
const GAP: i64 = 8;

/// How the elements of a row are padded.
pub fn padded(cols: i64) -> i64 { (cols + 15) / 16 * 16 }

/// Planes of bf16, or the one of a narrow float, a matrix takes.
pub fn planes(dtype: DType) -> i64 { if dtype.size() == 2 { 1 } else { 3 } }

/// Bytes of shared memory of a panel.
pub fn bytes(rows: i64, m: &Matrix) -> i64 { rows * (padded(m.cols) + GAP) * planes(m.dtype) * 2 }

/// A block of rows of a matrix, and what this thread copies of it.
pub struct Panel<'a> {
    /// Shared memory.
    pub buf: Buf,
    /// Elements from row to row.
    pub pitch: i64,
    /// Elements from plane to plane.
    pub plane: i64,
    /// Number of planes.
    pub planes: i64,
    m: &'a Matrix,
    /// Element of the matrix of this tile's batch with row 0.
    base: Val,
    /// Elements of a copy.
    lanes: i64,
    asynchronous: bool,
    parts: Vec<Part>,
}

/// A piece of a row that a thread copies.
struct Part {
    row: Val,
    col: Val,
    /// False if this thread has none, after the others have theirs.
    present: Option<Val>,
}

/// Copies under way: the elements that are still in registers.
pub struct Pending(Vec<Val>);

impl<'a> Panel<'a> {
    /// Shared memory for `rows` rows of a matrix.
    pub fn new(kb: &mut Kb, name: &str, m: &'a Matrix, rows: i64, batch: &[Val]) -> Panel<'a> {
        let width = padded(m.cols);
        let (pitch, planes) = (width + GAP, planes(m.dtype));
        let dtype = if planes == 1 { m.dtype } else { DType::BF16 };
        let buf = kb.k.shared(name, dtype, (planes * rows * pitch) as u64);
        let base = kb.address(batch, &m.batch);
        let lanes = COPY_BYTES / m.dtype.size() as i64;
        let parts = parts(kb, m, rows, width / lanes, lanes);
        let asynchronous = planes == 1 && m.col.is(1) && aligned(m, lanes);
        Panel { buf, pitch, plane: rows * pitch, planes, m, base, lanes, asynchronous, parts }
    }

    /// Begins to copy the rows from `first` on.
    pub fn begin(&self, kb: &mut Kb, first: Val) -> Pending {
        let rows = kb.dim(&self.m.rows);
        let last = kb.k.add_int(rows, -1);
        let mut values = Vec::new();
        for part in &self.parts {
            let row = kb.k.add(first, part.row);
            let row = kb.min(row, last);
            let at = kb.address(&[row, part.col], &[self.m.row.clone(), self.m.col.clone()]);
            let at = kb.k.add(at, self.base);
            let count = (self.m.cols % 16 != 0).then(|| {
                let cols = kb.k.int(self.m.cols);
                kb.k.sub(cols, part.col)
            });
            let lanes = self.lanes as u32;
            if self.asynchronous {
                let to = self.place(kb, part);
                let copy = |kb: &mut Kb| kb.k.copy_async((self.buf, to, 0), (self.m.buf, at, 0), lanes, count);
                where_present(kb, part, copy);
            } else {
                let stride = kb.dim(&self.m.col);
                values.push(kb.k.load_strided(self.m.buf, at, stride, lanes, count));
            }
        }
        if self.asynchronous {
            kb.k.copy_commit();
        }
        Pending(values)
    }

    /// Ends what `begin` began; after a barrier all threads see it.
    pub fn end(&self, kb: &mut Kb, pending: Pending) {
        if self.asynchronous {
            kb.k.copy_wait(0);
        }
        for (part, x) in self.parts.iter().zip(pending.0) {
            let to = self.place(kb, part);
            let pieces = split(kb, x);
            where_present(kb, part, |kb| {
                for (i, piece) in (0..).zip(pieces) {
                    kb.k.store(self.buf, to, i * self.plane, piece, None);
                }
            });
        }
    }

    fn place(&self, kb: &mut Kb, part: &Part) -> Val {
        let row = kb.k.mul_int(part.row, self.pitch);
        kb.k.add(row, part.col)
    }
}

fn where_present(kb: &mut Kb, part: &Part, body: impl FnOnce(&mut Kb)) {
    let open = part.present.map(|present| kb.k.begin_if(present));
    body(kb);
    if let Some(mut open) = open {
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
    }
}

/// Deals the pieces of the rows to the threads: neighbours take what is contiguous in memory.
fn parts(kb: &mut Kb, m: &Matrix, rows: i64, pieces: i64, lanes: i64) -> Vec<Part> {
    let threads = i64::from(kb.k.threads());
    let thread = kb.k.thread();
    let total = rows * pieces;
    let across = !m.col.is(1) && m.row.is(1);
    let mut part = |i: i64| {
        let mut number = kb.k.add_int(thread, i * threads);
        let mut present = None;
        if (i + 1) * threads > total {
            let (end, last) = (kb.k.int(total), kb.k.int(total - 1));
            present = Some(kb.k.cmp(Pred::Lt, number, end));
            number = kb.min(number, last);
        }
        let by = kb.k.int(if across { rows } else { pieces });
        let (over, rest) = (kb.k.bin(BinOp::Div, number, by), kb.k.bin(BinOp::Rem, number, by));
        let (row, piece) = if across { (rest, over) } else { (over, rest) };
        Part { row, col: kb.k.mul_int(piece, lanes), present }
    };
    (0..(total + threads - 1) / threads).map(&mut part).collect()
}

/// True if every piece starts at a multiple of its size.
fn aligned(m: &Matrix, lanes: i64) -> bool {
    let lanes = Dim::from(lanes);
    m.batch.iter().chain([&m.row, &m.offset]).all(|d| d.rem(&lanes).is(0))
}

/// A narrow float as it is, an f32 as three of bf16 that add up to it.
pub fn split(kb: &mut Kb, x: Val) -> Vec<Val> {
    if kb.k.ty(x).dtype != DType::F32 {
        return vec![x];
    }
    let mut rest = x;
    let mut pieces = Vec::new();
    for _ in 0..2 {
        let piece = kb.k.convert(rest, DType::BF16);
        let value = kb.k.convert(piece, DType::F32);
        rest = kb.k.bin(BinOp::Sub, rest, value);
        pieces.push(piece);
    }
    pieces.push(kb.k.convert(rest, DType::BF16));
    pieces
}
