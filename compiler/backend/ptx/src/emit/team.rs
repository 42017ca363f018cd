//! What the threads of a tile do together: shuffles, matrix fragments, barriers, asynchronous copies.

use super::memory::Tail;
use super::*;

impl Emitter<'_> {
    pub(super) fn team_instr(&mut self, v: Val, instr: &TeamInstr) -> Result<(), String> {
        match *instr {
            TeamInstr::Thread => {
                let thread = self.thread.expect("threads are numbered first");
                self.set_lanes(v, vec![thread.into()]);
            }
            TeamInstr::Shuffle(lane, a) => {
                let (x, dtype) = (self.scalar(a), self.kernel.ty(a).dtype);
                let moved = self.shuffle(lane, x, dtype);
                self.set_lanes(v, vec![moved]);
            }
            TeamInstr::Mma { a, b, c } => self.mma(v, a, b, c)?,
            TeamInstr::LoadMatrix { buf, index, offset, transposed } => {
                let ty = self.kernel.ty(v);
                let index = self.scalar(index);
                let at = self.address(buf, index, offset).at(0);
                let words: Vec<Reg> =
                    (0..ty.lanes as usize * ty.dtype.size() / 4).map(|_| self.fresh(Class::B32)).collect();
                let trans = if transposed { ".trans" } else { "" };
                let name = format!("ldmatrix.sync.aligned.m8n8.x{}{trans}.shared.b16", words.len());
                self.ins(name, 1, [Arg::Group(words.clone()), at]);
                self.set_words(v, words);
            }
        }
        Ok(())
    }

    /// The lane of another thread of the warp, in pieces of 32 bits.
    fn shuffle(&mut self, lane: Lane, x: Opnd, dtype: DType) -> Opnd {
        let Opnd::Reg(r) = x else { return x };
        match r.class {
            Class::B32 => {
                let to = self.shuffle_word(lane, r);
                // Every thread's value is in the range of its own.
                if let Some(facts) = self.facts[r.id as usize].clone() {
                    self.set_facts(to, Facts::register(to, facts.lo, facts.hi));
                }
                to.into()
            }
            Class::F32 => self.shuffle_word(lane, r).into(),
            Class::Pred => {
                let word = self.op("selp.b32", Class::B32, [1.into(), 0.into(), r.into()]);
                let word = self.shuffle_word(lane, word);
                self.op("setp.ne.s32", Class::Pred, [word.into(), 0.into()]).into()
            }
            Class::B16 => {
                let word = self.op("cvt.u32.u16", Class::B32, [r.into()]);
                let word = self.shuffle_word(lane, word);
                self.op("cvt.u16.u32", Class::B16, [word.into()]).into()
            }
            Class::B64 | Class::F64 => {
                let halves = [self.fresh(Class::B32), self.fresh(Class::B32)];
                self.ins("mov.b64", 1, [Arg::Group(halves.into()), r.into()]);
                let moved = halves.map(|h| self.shuffle_word(lane, h));
                self.op("mov.b64", class_of(dtype), [Arg::Group(moved.into())]).into()
            }
        }
    }

    fn shuffle_word(&mut self, lane: Lane, r: Reg) -> Reg {
        let (mode, n) = match lane {
            Lane::Xor(n) => ("bfly", n),
            Lane::Down(n) => ("down", n),
            Lane::Index(n) => ("idx", n),
        };
        let all = Arg::Name("0xffffffff".into());
        self.op(format!("shfl.sync.{mode}.b32"), r.class, [r.into(), i64::from(n).into(), 31.into(), all])
    }

    fn mma(&mut self, v: Val, a: Val, b: Val, c: Val) -> Result<(), String> {
        let types = [a, b].map(|x| self.kernel.ty(x).dtype);
        let shape = match types[0] {
            DType::F32 => "m16n8k8",
            DType::F16 | DType::BF16 => "m16n8k16",
            _ => "m16n8k32",
        };
        let [left, right] = types.map(|t| match t {
            DType::F32 => "tf32",
            DType::I8 => "s8",
            t => t.name(),
        });
        let sum = self.kernel.ty(c).dtype;
        let out = if sum == DType::F32 { "f32" } else { "s32" };
        let (a, b) = (self.fragment(a), self.fragment(b));
        let c = self.lanes(c).to_vec().into_iter().map(|x| self.reg(x)).collect();
        let d: Vec<Reg> = (0..4).map(|_| self.fresh(class_of(sum))).collect();
        self.ins(
            format!("mma.sync.aligned.{shape}.row.col.{out}.{left}.{right}.{out}"),
            1,
            [Arg::Group(d.clone()), Arg::Group(a), Arg::Group(b), Arg::Group(c)],
        );
        self.set_lanes(v, d.into_iter().map(Opnd::Reg).collect());
        Ok(())
    }

    /// Words of a fragment.
    fn fragment(&mut self, v: Val) -> Vec<Reg> {
        if self.kernel.ty(v).dtype != DType::F32 {
            return self.words(v).to_vec();
        }
        let lanes = self.lanes(v);
        lanes
            .iter()
            .map(|&x| {
                let x = self.reg(x);
                self.op("mov.b32", Class::B32, [x.into()])
            })
            .collect()
    }

    pub(super) fn team_stmt(&mut self, stmt: &TeamStmt) -> Result<(), String> {
        match *stmt {
            TeamStmt::Barrier => self.ins("bar.sync", 0, [0.into()]),
            TeamStmt::CopyCommit => self.ins("cp.async.commit_group", 0, []),
            TeamStmt::CopyWait(n) => self.ins("cp.async.wait_group", 0, [i64::from(n).into()]),
            TeamStmt::CopyAsync { to, to_index, to_offset, from, from_index, from_offset, lanes, count } => {
                let size = self.place(to).dtype.size() as i64;
                let (to_index, from_index) = (self.scalar(to_index), self.scalar(from_index));
                let to = self.address(to, to_index, to_offset).at(0);
                let from = self.address(from, from_index, from_offset).at(0);
                let bytes = size * i64::from(lanes);
                let name = if bytes == 16 { "cp.async.cg.shared.global" } else { "cp.async.ca.shared.global" };
                match self.tail(count, lanes) {
                    Tail::Known(n) if n == lanes => self.ins(name, 0, [to, from, bytes.into()]),
                    Tail::Known(n) => self.ins(name, 0, [to, from, bytes.into(), (size * i64::from(n)).into()]),
                    Tail::Count(n) => {
                        let read = match size {
                            1 => n,
                            _ => self.op("mul.lo.s32", Class::B32, [n.into(), size.into()]),
                        };
                        self.ins(name, 0, [to, from, bytes.into(), read.into()]);
                    }
                }
            }
        }
        Ok(())
    }
}
