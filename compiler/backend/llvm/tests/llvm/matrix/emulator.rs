//! Tile instructions in software, for processors without them: each is a signal, whose handler does what the instruction
//! would and goes on after it. Written from the Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, so
//! that what LLVM encodes is held to the manual and not to LLVM.

use std::cell::RefCell;
use std::sync::Once;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

/// Bytes of a tile, and of its rows.
const TILE: usize = 1024;
const ROW: usize = 64;

/// What a thread's tile instructions did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub configured: u32,
    pub released: u32,
    pub dots: u32,
    /// The first that a processor would have refused.
    pub wrong: Option<&'static str>,
}

/// Registers of a thread.
struct Tiles {
    /// Rows and bytes of a row, per tile; none without a configuration.
    shapes: Option<[(usize, usize); 8]>,
    data: [[u8; TILE]; 8],
    seen: Seen,
}

thread_local! {
    static TILES: RefCell<Tiles> = const {
        let seen = Seen { configured: 0, released: 0, dots: 0, wrong: None };
        RefCell::new(Tiles { shapes: None, data: [[0; TILE]; 8], seen })
    };
}

/// Runs `f` with tile instructions; what they did.
pub fn with_tiles(f: impl FnOnce()) -> Seen {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(install);
    TILES.with_borrow_mut(|t| t.seen = Seen::default());
    f();
    TILES.with_borrow_mut(|t| {
        if t.shapes.is_some() {
            t.wrong("registers are not released");
        }
        t.seen
    })
}

fn install() {
    // SAFETY: the handler has the signature that SA_SIGINFO asks for, and the structure is wholly initialized.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_illegal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut())
    };
    assert_eq!(done, 0, "the handler is installed");
}

extern "C" fn on_illegal(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the third argument of such a handler points to the interrupted thread's context, nobody else's meanwhile.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let at = registers[libc::REG_RIP as usize] as usize as *const u8;
    match Instruction::read(at) {
        Some(i) => {
            let general = GENERAL.map(|r| registers[r as usize] as usize);
            TILES.with_borrow_mut(|t| t.execute(&i, &general));
            registers[libc::REG_RIP as usize] += i.length as i64;
        }
        // SAFETY: the default disposition is always valid. The instruction is met again, and ends the process.
        None => _ = unsafe { libc::signal(libc::SIGILL, libc::SIG_DFL) },
    }
}

/// General registers by their number in instructions.
const GENERAL: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// A place in memory: `base + displacement`, and rows `index << scale` bytes apart.
#[derive(Clone, Copy)]
struct Place {
    base: Option<usize>,
    index: Option<usize>,
    scale: u8,
    displacement: i64,
}

/// An instruction of map 0F38 with a VEX prefix, 128 bits, W0.
struct Instruction {
    opcode: u8,
    /// The mandatory prefix: none, 66, F3, F2.
    prefix: u8,
    reg: usize,
    rm: usize,
    vvvv: usize,
    place: Option<Place>,
    length: usize,
}

impl Instruction {
    /// Reads the instruction at an address the processor has just met; none if it is no instruction of this kind.
    fn read(at: *const u8) -> Option<Instruction> {
        // SAFETY: the processor read these bytes as one instruction; each is looked at only if those before say it belongs.
        let byte = |i: usize| unsafe { *at.add(i) };
        if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
            return None;
        }
        let high = |bit: u32| usize::from(byte(1) >> bit & 1 ^ 1) << 3;
        let modrm = byte(4);
        let (mode, reg, rm) = (modrm >> 6, usize::from(modrm >> 3 & 7) | high(7), usize::from(modrm & 7));
        let (vvvv, prefix) = (usize::from(!byte(2) >> 3 & 15), byte(2) & 3);
        let mut length = 5;
        let mut place = None;
        if mode != 3 {
            let mut p = Place { base: Some(rm | high(5)), index: None, scale: 0, displacement: 0 };
            if rm == 4 {
                let sib = byte(5);
                length = 6;
                let index = usize::from(sib >> 3 & 7) | high(6);
                p = Place {
                    base: Some(usize::from(sib & 7) | high(5)),
                    index: Some(index).filter(|&i| i != 4),
                    scale: sib >> 6,
                    ..p
                };
            }
            let wide = |length: usize| i64::from(i32::from_le_bytes([0, 1, 2, 3].map(|i| byte(length + i))));
            match (mode, p.base.is_some_and(|b| b & 7 == 5)) {
                // Addresses relative to the instruction are not used for tiles.
                (0, true) if rm == 5 => return None,
                (0, true) => (p.base, p.displacement, length) = (None, wide(length), length + 4),
                (1, _) => (p.displacement, length) = (i64::from(byte(length) as i8), length + 1),
                (2, _) => (p.displacement, length) = (wide(length), length + 4),
                _ => {}
            }
            place = Some(p);
        }
        Some(Instruction { opcode: byte(3), prefix, reg, rm, vvvv, place, length })
    }
}

impl Tiles {
    fn wrong(&mut self, what: &'static str) {
        self.seen.wrong = self.seen.wrong.or(Some(what));
    }

    fn execute(&mut self, i: &Instruction, general: &[usize; 16]) {
        let address = |p: Place| p.base.map_or(0, |b| general[b]).wrapping_add(p.displacement as usize);
        let rows = |p: Place| (address(p), p.index.map_or(0, |r| general[r] << p.scale));
        match (i.opcode, i.prefix, i.place) {
            (0x49, 0, Some(p)) => self.configure(address(p)),
            (0x49, 0, None) => {
                self.shapes = None;
                self.seen.released += 1;
            }
            (0x49, 3, None) => self.on_shape(i.reg, |t, _| t.data[i.reg] = [0; TILE]),
            (0x4b, 3 | 1, Some(p)) => self.load(i.reg, rows(p)),
            (0x4b, 2, Some(p)) => self.store(i.reg, rows(p)),
            (0x5e, prefix, None) => self.dot(i.reg, i.rm, i.vvvv, prefix),
            _ => self.wrong("no instruction of AMX-TILE or AMX-INT8"),
        }
    }

    fn configure(&mut self, at: usize) {
        // SAFETY: the kernel gives the address of the 64 bytes it has written for this.
        let bytes = unsafe { *(at as *const [u8; 64]) };
        let shape = |i: usize| {
            (usize::from(bytes[48 + i]), usize::from(u16::from_le_bytes([bytes[16 + 2 * i], bytes[17 + 2 * i]])))
        };
        let shapes: [(usize, usize); 8] = std::array::from_fn(shape);
        let fits = |&(rows, row): &(usize, usize)| rows <= 16 && row <= ROW && (rows == 0) == (row == 0);
        if bytes[0] != 1 || bytes[1..16].iter().any(|&b| b != 0) || !shapes.iter().all(fits) {
            self.wrong("a configuration that is not one");
        }
        (self.shapes, self.data) = (Some(shapes), [[0; TILE]; 8]);
        self.seen.configured += 1;
    }

    /// Does something with a tile that has a shape.
    fn on_shape(&mut self, tile: usize, f: impl FnOnce(&mut Tiles, (usize, usize))) {
        match self.shapes.and_then(|s| s.get(tile).copied()).filter(|s| s.0 > 0) {
            Some(shape) => f(self, shape),
            None => self.wrong("a tile without a shape"),
        }
    }

    fn load(&mut self, tile: usize, (at, stride): (usize, usize)) {
        self.on_shape(tile, |t, (rows, row)| {
            t.data[tile] = [0; TILE];
            for r in 0..rows {
                let from = at.wrapping_add(r.wrapping_mul(stride)) as *const u8;
                // SAFETY: the kernel reads these bytes; a wrong address faults here as it would there.
                unsafe { from.copy_to_nonoverlapping(t.data[tile][r * ROW..].as_mut_ptr(), row) };
            }
        });
    }

    fn store(&mut self, tile: usize, (at, stride): (usize, usize)) {
        self.on_shape(tile, |t, (rows, row)| {
            for r in 0..rows {
                let to = at.wrapping_add(r.wrapping_mul(stride)) as *mut u8;
                // SAFETY: the kernel writes these bytes; a wrong address faults here as it would there.
                unsafe { to.copy_from_nonoverlapping(t.data[tile][r * ROW..].as_ptr(), row) };
            }
        });
    }

    /// `TDPBSSD` (F2), `TDPBSUD` (F3), `TDPBUSD` (66) and `TDPBUUD`: the first letter is the sign of the first source.
    fn dot(&mut self, to: usize, a: usize, b: usize, prefix: u8) {
        let shape = |t: usize| self.shapes.and_then(|s| s.get(t).copied()).unwrap_or((0, 0));
        let ((rows, row), (a_rows, a_row), (b_rows, b_row)) = (shape(to), shape(a), shape(b));
        let whole = [row, a_row, b_row].iter().all(|n| n % 4 == 0 && *n > 0);
        if !whole || rows != a_rows || a_row / 4 != b_rows || row != b_row || to == a || a == b || to == b {
            return self.wrong("shapes that do not fit");
        }
        let value = |x: u8, signed: bool| if signed { i32::from(x as i8) } else { i32::from(x) };
        let (a_signed, b_signed) = (prefix & 2 != 0, matches!(prefix, 1 | 3));
        for m in 0..rows {
            for k in 0..b_rows {
                for n in 0..row / 4 {
                    let at = m * ROW + 4 * n;
                    let mut sum = i32::from_le_bytes(self.data[to][at..at + 4].try_into().expect("four bytes"));
                    for i in 0..4 {
                        let (x, y) = (self.data[a][m * ROW + 4 * k + i], self.data[b][k * ROW + 4 * n + i]);
                        sum = sum.wrapping_add(value(x, a_signed) * value(y, b_signed));
                    }
                    self.data[to][at..at + 4].copy_from_slice(&sum.to_le_bytes());
                }
            }
        }
        self.seen.dots += 1;
    }
}
