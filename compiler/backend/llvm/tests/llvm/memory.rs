//! Partial, strided and gathered accesses next to a page that must not be touched.

use memmap2::MmapMut;
use xlac_ir::DType;
use xlac_ir::kernel::*;

use crate::support::*;

/// Memory that ends where a page without any access begins.
struct Guarded {
    map: MmapMut,
    bytes: usize,
}

const PAGE: usize = 4096;

impl Guarded {
    fn new(bytes: usize) -> Guarded {
        let usable = bytes.next_multiple_of(PAGE) + PAGE;
        let mut map = MmapMut::map_anon(usable + PAGE).expect("memory");
        // SAFETY: the last page of a mapping of our own; nothing refers to it, and `memory` stays clear of it.
        let rc = unsafe { libc::mprotect(map.as_mut_ptr().add(usable).cast(), PAGE, libc::PROT_NONE) };
        assert_eq!(rc, 0);
        Guarded { map, bytes }
    }

    /// The bytes right before the guard.
    fn memory(&mut self) -> &mut [u8] {
        let end = self.map.len() - PAGE;
        &mut self.map[end - self.bytes..end]
    }
}

const LANES: [u32; 9] = [1, 2, 3, 5, 8, 16, 17, 32, 64];

fn counts(lanes: u32) -> Vec<i64> {
    let n = i64::from(lanes);
    let mut counts = vec![i64::MIN, -1, 0, 1, n / 2, n - 1, n, n + 1, n + 300, i64::MAX];
    counts.extend([7, 9, 31].iter().filter(|&&c| c < n));
    counts
}

/// How a buffer is read.
#[derive(Clone, Copy, Debug)]
enum Read { Contiguous, Strided, Gathered }

fn reader(dtype: DType, lanes: u32, read: Read) -> Kernel {
    let mut k = KernelBuilder::new("read");
    let a = k.param("a", dtype, Access::Read);
    let out = k.param("out", dtype, Access::Write);
    let (count, start, stride) = (k.dim("count"), k.dim("start"), k.dim("stride"));
    // The index lies outside of the buffer and its constant part brings it back.
    let index = k.add_int(start, -5);
    let x = match read {
        Read::Contiguous => k.load(a, index, 5, lanes, Some(count)),
        Read::Strided => k.load_strided(a, start, stride, lanes, Some(count)),
        Read::Gathered => {
            let zero = k.int(0);
            let lane = k.iota(zero, lanes);
            let lane = k.mul(lane, stride);
            let at = k.add(lane, index);
            k.gather(a, at, 5, Some(count))
        }
    };
    let zero = k.int(0);
    k.store(out, zero, 0, x, None);
    k.finish()
}

#[test]
fn partial_loads_stop_at_their_count() {
    for target in runnable() {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::U8, DType::Bool, DType::I32, DType::I64] {
            for read in [Read::Contiguous, Read::Strided, Read::Gathered] {
                let kernels: Vec<Kernel> = LANES.iter().map(|&lanes| reader(dtype, lanes, read)).collect();
                let loaded = Loaded::new(&kernels, &target);
                for (i, &lanes) in LANES.iter().enumerate() {
                    let stride = if matches!(read, Read::Contiguous) { 1 } else { 3 };
                    for count in counts(lanes) {
                        check_load(&loaded, i, dtype, lanes, count, stride);
                    }
                }
            }
        }
    }
}

fn check_load(loaded: &Loaded, kernel: usize, dtype: DType, lanes: u32, count: i64, stride: usize) {
    let wanted = count.clamp(0, i64::from(lanes)) as usize;
    let len = if wanted == 0 { 0 } else { (wanted - 1) * stride + 1 };
    let data: Vec<Const> = values(dtype, 256).into_iter().cycle().take(len).collect();
    let mut source = Guarded::new(len * dtype.size());
    source.memory().copy_from_slice(&pack(&data));
    let mut out = vec![0xeeu8; lanes as usize * dtype.size()];
    let buffers = [source.memory().as_mut_ptr(), out.as_mut_ptr()];
    assert_eq!(loaded.call(kernel, &buffers, &[count, 0, stride as i64], 0..1), 0);
    for lane in 0..lanes as usize {
        let want = if lane < wanted { data[lane * stride] } else { Const { dtype, bits: 0 } };
        let got = element(&out, dtype, lane);
        assert_eq!(got, want, "{dtype} x{lanes}, count {count}, stride {stride}, lane {lane}");
    }
}

#[test]
fn partial_stores_stop_at_their_count() {
    for target in runnable() {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::U8, DType::Bool, DType::I32, DType::I64] {
            let store = |lanes: u32| {
                let mut k = KernelBuilder::new("write");
                let a = k.param("a", dtype, Access::Read);
                let out = k.param("out", dtype, Access::Write);
                let count = k.dim("count");
                let zero = k.int(0);
                let x = k.load(a, zero, 0, lanes, None);
                k.store(out, zero, 0, x, Some(count));
                k.finish()
            };
            let kernels: Vec<Kernel> = LANES.iter().map(|&lanes| store(lanes)).collect();
            let loaded = Loaded::new(&kernels, &target);
            for (i, &lanes) in LANES.iter().enumerate() {
                for count in counts(lanes) {
                    check_store(&loaded, i, dtype, lanes, count);
                }
            }
        }
    }
}

fn check_store(loaded: &Loaded, kernel: usize, dtype: DType, lanes: u32, count: i64) {
    let wanted = count.clamp(0, i64::from(lanes)) as usize;
    let data: Vec<Const> = values(dtype, 256).into_iter().cycle().take(lanes as usize).collect();
    let mut source = pack(&data);
    // Room for the lanes before the guard only; what lies before must stay as it is.
    let margin = 64;
    let mut out = Guarded::new(margin + wanted * dtype.size());
    out.memory().fill(0xee);
    let at = out.memory()[margin..].as_mut_ptr();
    assert_eq!(loaded.call(kernel, &[source.as_mut_ptr(), at], &[count], 0..1), 0);
    assert!(out.memory()[..margin].iter().all(|&b| b == 0xee));
    assert_eq!(out.memory()[margin..], source[..wanted * dtype.size()], "{dtype} x{lanes}, count {count}");
}

/// Whole strided loads and gathers, with strides known and unknown, and indices before the offset.
#[test]
fn whole_strided_and_gathered_loads() {
    for target in runnable() {
        for lanes in [1u32, 4, 7, 16, 40] {
            let mut k = KernelBuilder::new("whole");
            let a = k.param("a", DType::I16, Access::Read);
            let out = k.param("out", DType::I16, Access::Write);
            let stride = k.dim("stride");
            let zero = k.int(0);
            let known = k.int(5);
            let x = k.load_strided(a, zero, stride, lanes, None);
            let y = k.load_strided(a, zero, known, lanes, None);
            let lane = k.iota(zero, lanes);
            let square = k.mul(lane, lane);
            let z = k.gather(a, square, 1, None);
            let n = i64::from(lanes);
            k.store(out, zero, 0, x, None);
            k.store(out, zero, n, y, None);
            k.store(out, zero, 2 * n, z, None);
            let loaded = Loaded::new(&[k.finish()], &target);
            let mut data: Vec<i16> = (0..2000).collect();
            let mut out = vec![0i16; 3 * lanes as usize];
            let buffers = [data.as_mut_ptr().cast(), out.as_mut_ptr().cast()];
            assert_eq!(loaded.call(0, &buffers, &[3], 0..1), 0);
            let lanes = lanes as i16;
            let strided = (0..lanes).map(|i| i * 3).chain((0..lanes).map(|i| i * 5));
            let want: Vec<i16> = strided.chain((0..lanes).map(|i| i * i + 1)).collect();
            assert_eq!(out, want);
        }
    }
}
