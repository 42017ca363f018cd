//! Moves instructions that do not depend on a loop in front of it.
//!
//! Cranelift's own motion is part of an optimizer that also reorders accumulator chains, which ruins register tiles;
//! kernels are structured, so this is a walk.

use std::collections::HashSet;

use xlac_ir::kernel::{Block, Instr, Kernel, Stmt, Val};

/// What runs once per launch and what runs for every tile.
pub struct Hoisted {
    /// Independent of the tile: scalars only, to leave the vector registers to the loops.
    pub entry: Vec<Stmt>,
    /// The tile task.
    pub body: Block,
}

/// Splits the body of `kernel`, hoisting inside it as well.
pub fn hoist(kernel: &Kernel) -> Hoisted {
    let body = block(&kernel.body);
    let mut varying = HashSet::new();
    define_all(&body, &mut varying);
    let scalar = |v: Val, instr: &Instr| {
        *instr != Instr::Tile && (kernel.ty(v).lanes == 1 || matches!(instr, Instr::Const(_)))
    };
    let (entry, rest) = split(body.0, &mut varying, scalar);
    Hoisted { entry, body: Block(rest) }
}

/// `b` with every loop in it freed of what does not depend on it.
fn block(b: &Block) -> Block {
    let mut out = Vec::with_capacity(b.0.len());
    for stmt in &b.0 {
        match stmt {
            Stmt::For(f) => {
                let body = block(&f.body);
                let mut varying: HashSet<Val> = f.carried.iter().map(|c| c.phi).collect();
                varying.insert(f.var);
                define_all(&body, &mut varying);
                let (before, rest) = split(body.0, &mut varying, |_, instr| *instr != Instr::Tile);
                out.extend(before);
                let mut f = f.clone();
                f.body = Block(rest);
                out.push(Stmt::For(f));
            }
            Stmt::If(i) => {
                let mut i = i.clone();
                (i.then, i.els) = (block(&i.then), block(&i.els));
                out.push(Stmt::If(i));
            }
            other => out.push(other.clone()),
        }
    }
    Block(out)
}

/// Takes the pure definitions that depend on nothing in `varying` and that `may` move out of `stmts`.
fn split(
    stmts: Vec<Stmt>,
    varying: &mut HashSet<Val>,
    may: impl Fn(Val, &Instr) -> bool,
) -> (Vec<Stmt>, Vec<Stmt>) {
    let (mut before, mut rest) = (Vec::new(), Vec::new());
    for stmt in stmts {
        match &stmt {
            Stmt::Let(v, instr) if !instr.is_load() && may(*v, instr) => {
                let fixed = instr.operands().iter().all(|o| !varying.contains(o));
                if fixed {
                    varying.remove(v);
                    before.push(stmt);
                } else {
                    rest.push(stmt);
                }
            }
            _ => rest.push(stmt),
        }
    }
    (before, rest)
}

fn define_all(b: &Block, into: &mut HashSet<Val>) {
    for stmt in &b.0 {
        match stmt {
            Stmt::Let(v, _) => {
                into.insert(*v);
            }
            Stmt::For(f) => {
                into.insert(f.var);
                into.extend(f.carried.iter().flat_map(|c| [c.phi, c.result]));
                define_all(&f.body, into);
            }
            Stmt::If(i) => {
                into.extend(i.results.iter().map(|r| r.0));
                define_all(&i.then, into);
                define_all(&i.els, into);
            }
            Stmt::Store { .. } | Stmt::Prefetch { .. } | Stmt::MatrixStore(_) | Stmt::Check { .. } | Stmt::Team(_) => {}
        }
    }
}

/// Statements in a block, those of inner blocks included.
pub fn size(b: &Block) -> usize {
    b.0.iter()
        .map(|stmt| match stmt {
            Stmt::For(f) => 4 + size(&f.body),
            Stmt::If(i) => 2 + size(&i.then) + size(&i.els),
            _ => 1,
        })
        .sum()
}
