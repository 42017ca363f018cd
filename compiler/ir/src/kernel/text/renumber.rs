//! The canonical numbering: values in the order of their definition in the text.

use super::*;

/// The kernel with its values renumbered in the order of their definition, and its notes one line each.
///
/// Values that are not defined anywhere are dropped; ones used without a definition share a number past the end.
pub fn canonical(kernel: &Kernel) -> Kernel {
    let mut r = Renumber { old: Vec::new(), new: vec![None; kernel.values.len()] };
    r.define_block(&kernel.body);
    let lines = kernel.notes.iter().flat_map(|n| n.split(['\n', '\r'])).map(|n| n.trim().to_string());
    Kernel {
        values: r.old.iter().map(|&v| kernel.ty(v)).collect(),
        body: r.block(&kernel.body),
        notes: lines.collect(),
        ..kernel.clone()
    }
}

struct Renumber {
    /// New values: what they were.
    old: Vec<Val>,
    /// Old values: what they become.
    new: Vec<Option<Val>>,
}

impl Renumber {
    fn define(&mut self, v: Val) {
        if let Some(slot @ None) = self.new.get_mut(v.0 as usize) {
            *slot = Some(Val(self.old.len() as u32));
            self.old.push(v);
        }
    }

    fn define_block(&mut self, block: &Block) {
        for stmt in &block.0 {
            match stmt {
                Stmt::Let(v, _) => self.define(*v),
                Stmt::For(f) => {
                    self.define(f.var);
                    f.carried.iter().for_each(|c| self.define(c.phi));
                    self.define_block(&f.body);
                    f.carried.iter().for_each(|c| self.define(c.result));
                }
                Stmt::If(i) => {
                    self.define_block(&i.then);
                    self.define_block(&i.els);
                    i.results.iter().for_each(|r| self.define(r.0));
                }
                Stmt::Store { .. } | Stmt::Prefetch { .. } | Stmt::MatrixStore(_) | Stmt::Check { .. } | Stmt::Team(_) => {}
            }
        }
    }

    fn get(&self, v: Val) -> Val {
        self.new.get(v.0 as usize).copied().flatten().unwrap_or(Val(self.old.len() as u32))
    }

    fn block(&self, block: &Block) -> Block {
        Block(block.0.iter().map(|s| self.stmt(s)).collect())
    }

    fn stmt(&self, stmt: &Stmt) -> Stmt {
        match stmt {
            Stmt::Let(v, instr) => Stmt::Let(self.get(*v), self.instr(instr)),
            Stmt::Store { buf, index, offset, value, count } => Stmt::Store {
                buf: *buf,
                index: self.get(*index),
                offset: *offset,
                value: self.get(*value),
                count: count.map(|c| self.get(c)),
            },
            Stmt::Prefetch { buf, index, offset } => Stmt::Prefetch { buf: *buf, index: self.get(*index), offset: *offset },
            Stmt::For(f) => Stmt::For(Box::new(For {
                var: self.get(f.var),
                lo: self.get(f.lo),
                hi: self.get(f.hi),
                carried: f.carried.iter().map(|c| self.carried(c)).collect(),
                body: self.block(&f.body),
                ..**f
            })),
            Stmt::If(i) => Stmt::If(Box::new(If {
                cond: self.get(i.cond),
                then: self.block(&i.then),
                els: self.block(&i.els),
                results: i.results.iter().map(|r| (self.get(r.0), self.get(r.1), self.get(r.2))).collect(),
            })),
            Stmt::Check { cond, code } => Stmt::Check { cond: self.get(*cond), code: *code },
            Stmt::MatrixStore(store) => Stmt::MatrixStore(store.map(|v| self.get(v))),
            Stmt::Team(stmt) => Stmt::Team(stmt.map(|v| self.get(v))),
        }
    }

    fn carried(&self, c: &Carried) -> Carried {
        Carried { phi: self.get(c.phi), init: self.get(c.init), next: self.get(c.next), result: self.get(c.result) }
    }

    fn instr(&self, instr: &Instr) -> Instr {
        let get = |v: &Val| self.get(*v);
        match instr {
            Instr::Const(_) | Instr::Tile | Instr::Dim(_) => instr.clone(),
            Instr::Un(op, a) => Instr::Un(*op, get(a)),
            Instr::Bin(op, a, b) => Instr::Bin(*op, get(a), get(b)),
            Instr::Fma(a, b, c) => Instr::Fma(get(a), get(b), get(c)),
            Instr::Dot4(a, b, c) => Instr::Dot4(get(a), get(b), get(c)),
            Instr::Cmp(pred, a, b) => Instr::Cmp(*pred, get(a), get(b)),
            Instr::Select(c, a, b) => Instr::Select(get(c), get(a), get(b)),
            Instr::Convert(a) => Instr::Convert(get(a)),
            Instr::Bitcast(a) => Instr::Bitcast(get(a)),
            Instr::Splat(a) => Instr::Splat(get(a)),
            Instr::Iota(a) => Instr::Iota(get(a)),
            Instr::Extract(a, lane) => Instr::Extract(get(a), *lane),
            Instr::Slice(a, first) => Instr::Slice(get(a), *first),
            Instr::Concat(a, b) => Instr::Concat(get(a), get(b)),
            Instr::Permute(a, b, picks) => Instr::Permute(get(a), get(b), picks.clone()),
            Instr::Load { buf, index, offset, count } => {
                Instr::Load { buf: *buf, index: get(index), offset: *offset, count: count.as_ref().map(get) }
            }
            Instr::LoadStrided { buf, index, offset, stride, count } => Instr::LoadStrided {
                buf: *buf,
                index: get(index),
                offset: *offset,
                stride: get(stride),
                count: count.as_ref().map(get),
            },
            Instr::Matrix(instr) => Instr::Matrix(instr.map(|v| self.get(v))),
            Instr::Team(instr) => Instr::Team(instr.map(|v| self.get(v))),
            Instr::Gather { buf, index, offset, count } => {
                Instr::Gather { buf: *buf, index: get(index), offset: *offset, count: count.as_ref().map(get) }
            }
        }
    }
}
