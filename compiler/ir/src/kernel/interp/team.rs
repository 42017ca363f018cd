//! What the threads of a tile do together.

use super::*;

impl Machine<'_> {
    /// The warps of the active threads, which must be whole.
    fn warps(&self, what: &str, active: &[usize]) -> Result<Vec<usize>, Fault> {
        let warp = WARP as usize;
        let firsts: Vec<usize> = active.iter().copied().filter(|t| t % warp == 0).collect();
        if firsts.len() * warp == active.len() { Ok(firsts) } else { Err(self.divergent(what, active)) }
    }

    fn divergent(&self, what: &str, active: &[usize]) -> Fault {
        Fault::Divergent { tile: self.tile, what: what.into(), active: active.len(), threads: self.kernel.threads }
    }

    pub(super) fn team_instr(&mut self, v: Val, instr: &TeamInstr, active: &[usize]) -> Result<(), Fault> {
        for first in self.warps("an instruction of a warp", active)? {
            let results = match *instr {
                TeamInstr::Thread => unreachable!("each thread knows its number"),
                TeamInstr::Shuffle(lane, a) => (0..WARP).map(|i| self.of(first, source(lane, i), a).to_vec()).collect(),
                TeamInstr::Mma { a, b, c } => self.mma(first, a, b, c),
                TeamInstr::LoadMatrix { buf, index, offset, transposed } => {
                    self.load_matrix(first, self.kernel.ty(v), (buf, index, offset), transposed)?
                }
            };
            for (i, lanes) in results.into_iter().enumerate() {
                self.threads[first + i].values[v.0 as usize] = lanes;
            }
        }
        Ok(())
    }

    /// What lane `lane` of the warp that begins with thread `first` holds in `v`.
    fn of(&self, first: usize, lane: u32, v: Val) -> &[Const] {
        &self.threads[first + lane as usize].values[v.0 as usize]
    }

    /// Lanes of the result, of each thread of the warp. Sums go over k in order, a fused multiply-add a step.
    fn mma(&self, first: usize, a: Val, b: Val, c: Val) -> Vec<Vec<Const>> {
        let piece = self.kernel.ty(a).lanes / 4;
        let to = self.kernel.ty(c).dtype;
        let entry = |v: Val, lane: u32, i: u32| scalar::convert(self.of(first, lane, v)[i as usize], to);
        // Rows 8 and up are the odd pieces of A, the upper half of k the last pieces.
        let left = |row: u32, k: u32| {
            let (half, k) = (k / (4 * piece), k % (4 * piece));
            entry(a, row % 8 * 4 + k / piece, (half * 2 + row / 8) * piece + k % piece)
        };
        let right = |k: u32, column: u32| {
            let (half, k) = (k / (4 * piece), k % (4 * piece));
            entry(b, column * 4 + k / piece, half * piece + k % piece)
        };
        let sum = |lane: u32, i: u32| {
            let (row, column) = (lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
            (0..8 * piece).fold(self.of(first, lane, c)[i as usize], |sum, k| {
                let (x, y) = (left(row, k), right(k, column));
                let product = || scalar::bin(BinOp::Mul, x, y).and_then(|p| scalar::bin(BinOp::Add, p, sum));
                if to.is_float() { scalar::fma(x, y, sum) } else { product() }.expect(VERIFIED)
            })
        };
        (0..WARP).map(|lane| (0..4).map(|i| sum(lane, i)).collect()).collect()
    }

    fn load_matrix(
        &mut self,
        first: usize,
        ty: VType,
        (buf, index, offset): (Buf, Val, i64),
        transposed: bool,
    ) -> Result<Vec<Vec<Const>>, Fault> {
        let size = ty.dtype.size() as u32;
        let (matrices, piece) = (ty.lanes * size / 4, 4 / size);
        let mut results = vec![Vec::new(); WARP as usize];
        for matrix in 0..matrices {
            for lane in 0..WARP {
                for i in 0..piece {
                    let (row, column) = (lane / 4, lane % 4 * piece + i);
                    let (row, column) = if transposed { (column, row) } else { (row, column) };
                    self.now = first + (matrix * 8 + row) as usize;
                    let at = i128::from(self.int(index)) + i128::from(offset) + i128::from(column);
                    let x = self.read(buf, at)?;
                    results[lane as usize].push(x);
                }
            }
        }
        Ok(results)
    }

    pub(super) fn team_stmt(&mut self, stmt: &TeamStmt, active: &[usize]) -> Result<(), Fault> {
        if *stmt == TeamStmt::Barrier {
            let all = active.len() == self.threads.len();
            return if all { Ok(()) } else { Err(self.divergent("barrier", active)) };
        }
        for &t in active {
            self.now = t;
            match *stmt {
                TeamStmt::CopyAsync { to, to_index, to_offset, from, from_index, from_offset, lanes, count } => {
                    self.begin_copy((to, to_index, to_offset), (from, from_index, from_offset), lanes, count)?;
                }
                TeamStmt::CopyCommit => {
                    let begun = std::mem::take(&mut self.threads[t].begun);
                    self.threads[t].groups.push_back(begun);
                }
                TeamStmt::CopyWait(pending) => self.wait(pending as usize),
                TeamStmt::Barrier => unreachable!("handled above"),
            }
        }
        Ok(())
    }

    /// The destination is unreadable until the copy is waited for.
    fn begin_copy(
        &mut self,
        (to, to_index, to_offset): (Buf, Val, i64),
        (from, from_index, from_offset): (Buf, Val, i64),
        lanes: u32,
        count: Option<Val>,
    ) -> Result<(), Fault> {
        let first = i128::from(self.int(to_index)) + i128::from(to_offset);
        let source = i128::from(self.int(from_index)) + i128::from(from_offset);
        let n = self.active(count, lanes as usize);
        let Buf::Scratch(number) = to else { unreachable!("verified") };
        for i in 0..lanes as usize {
            let bits = if i < n { self.read(from, source + i as i128)?.bits } else { 0 };
            let at = self.bounded(to, first + i as i128)?;
            self.scratch_mut(number)[at] = None;
            let now = self.now;
            self.threads[now].begun.push((number, at, bits));
        }
        Ok(())
    }

    fn wait(&mut self, pending: usize) {
        while self.threads[self.now].groups.len() > pending {
            let group = self.threads[self.now].groups.pop_front().unwrap_or_default();
            for (buf, at, bits) in group {
                self.scratch_mut(buf)[at] = Some(bits);
            }
        }
    }
}

/// The lane that lane `i` reads.
fn source(lane: Lane, i: u32) -> u32 {
    match lane {
        Lane::Xor(n) => i ^ n,
        Lane::Down(n) if i + n < WARP => i + n,
        Lane::Down(_) => i,
        Lane::Index(n) => n,
    }
}
