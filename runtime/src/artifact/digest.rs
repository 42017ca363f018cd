//! Digests of weights, which are nearly all of a file and are verified before every first run: BLAKE3 of a list that holds
//! the XXH3 hash, of 128 bits, of each MiB.
//!
//! BLAKE3 of the weights themselves took two threads as long as half a first run of ResNet-50; XXH3 reads them about as fast as
//! memory gives them. Of damage it misses one case in 2^128. It does not withstand ill will, but neither does any digest
//! that lies in the same file.

use std::sync::atomic::{AtomicUsize, Ordering};

use twox_hash::XxHash3_128;

/// Bytes of a piece, which one thread hashes: so few that all threads end at nearly the same time.
const PIECE: usize = 1 << 20;

/// Hash of a piece, as it is in the list.
type Entry = [u8; 16];

/// Digest of `weights`, made by up to `threads` threads, the caller's included.
pub(crate) fn digest(weights: &[u8], threads: usize) -> blake3::Hash {
    blake3::hash(entries(weights, threads).as_flattened())
}

fn entries(weights: &[u8], threads: usize) -> Vec<Entry> {
    let mut ordered = vec![Entry::default(); weights.len().div_ceil(PIECE)];
    let next = AtomicUsize::new(0);
    let take = || {
        let mut taken = Vec::new();
        while let Some(piece) = piece(weights, next.fetch_add(1, Ordering::Relaxed)) {
            taken.push((piece.number, XxHash3_128::oneshot(piece.content).to_le_bytes()));
        }
        taken
    };
    let helpers = threads.min(ordered.len()).saturating_sub(1);
    std::thread::scope(|scope| {
        let helper = |_| std::thread::Builder::new().name("xlac-digest".into()).spawn_scoped(scope, take).ok();
        // A thread that cannot start leaves its share to the others.
        let helpers: Vec<_> = (0..helpers).map_while(helper).collect();
        let mut taken = take();
        for helper in helpers {
            // Nothing in a helper panics; if something did, its entries would stay zero and the digest would differ.
            taken.extend(helper.join().unwrap_or_default());
        }
        taken.into_iter().for_each(|(number, entry)| ordered[number] = entry);
    });
    ordered
}

struct Piece<'w> {
    number: usize,
    content: &'w [u8],
}

fn piece(weights: &[u8], number: usize) -> Option<Piece<'_>> {
    let begin = number.checked_mul(PIECE).filter(|&begin| begin < weights.len())?;
    Some(Piece { number, content: &weights[begin..weights.len().min(begin + PIECE)] })
}

/// Makes the digest of weights that come bit by bit.
pub(crate) struct Digester {
    list: blake3::Hasher,
    /// The last piece, of which `filled` bytes have come; there is none yet if that is 0.
    piece: twox_hash::xxhash3_128::Hasher,
    filled: usize,
}

impl Digester {
    /// Of no bytes.
    pub(crate) fn new() -> Digester {
        Digester { list: blake3::Hasher::new(), piece: Default::default(), filled: 0 }
    }

    /// Appends bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while let Some((head, rest)) = bytes.split_at_checked(PIECE - self.filled) {
            self.piece.write(head);
            self.end_piece();
            bytes = rest;
        }
        self.piece.write(bytes);
        self.filled += bytes.len();
    }

    /// The digest of all of them.
    pub(crate) fn finish(mut self) -> blake3::Hash {
        if self.filled > 0 {
            self.end_piece();
        }
        self.list.finalize()
    }

    fn end_piece(&mut self) {
        let entry: Entry = self.piece.finish_128().to_le_bytes();
        self.list.update(&entry);
        (self.piece, self.filled) = (Default::default(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 14] = [
        0,
        1,
        1023,
        1024,
        1025,
        PIECE - 1,
        PIECE,
        PIECE + 1,
        2 * PIECE,
        2 * PIECE + 1,
        3 * PIECE - 1,
        3 * PIECE,
        5 * PIECE + 1023,
        7 * PIECE,
    ];

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    /// The definition, to be read.
    fn plain(weights: &[u8]) -> blake3::Hash {
        let list: Vec<u8> = weights.chunks(PIECE).flat_map(|piece| XxHash3_128::oneshot(piece).to_le_bytes()).collect();
        blake3::hash(&list)
    }

    #[test]
    fn any_number_of_threads_gives_the_same_digest() {
        for len in LENGTHS {
            let weights = content(len);
            for threads in [0, 1, 2, 3, 4, 64] {
                assert_eq!(digest(&weights, threads), plain(&weights), "{len} bytes, {threads} threads");
            }
        }
    }

    #[test]
    fn parts_of_any_size_give_the_same_digest() {
        for len in LENGTHS {
            let weights = content(len);
            for part in [1 << 16, (1 << 16) + 1, PIECE, 3 * PIECE / 2, 4 * PIECE] {
                let mut digester = Digester::new();
                weights.chunks(part).for_each(|part| digester.update(part));
                assert_eq!(digester.finish(), plain(&weights), "{len} bytes in parts of {part}");
            }
        }
    }

    /// What is in files must not change with a version of the library. Python's `xxhash` and `blake3` give the same.
    #[test]
    fn digests_stay_what_they_are() {
        let hex = |len| digest(&content(len), 1).to_hex()[..16].to_string();
        let expected = ["af1349b9f5f9a1a6", "b709cdc1405bd6c2", "528b87f0423e7648", "e3fe83ad02f60c92"];
        assert_eq!([hex(0), hex(1), hex(1025), hex(PIECE + 1)], expected);
    }

    #[test]
    fn every_flipped_bit_and_swapped_block_changes_the_digest() {
        let mut weights = content(2 * PIECE + 100);
        let good = digest(&weights, 2);
        for position in [0, 1, 63, 64, 4095, PIECE - 1, PIECE, PIECE + 17, 2 * PIECE - 1, 2 * PIECE, 2 * PIECE + 99] {
            for bit in 0..8 {
                weights[position] ^= 1 << bit;
                assert_ne!(digest(&weights, 2), good, "bit {bit} of byte {position}");
                weights[position] ^= 1 << bit;
            }
        }
        for (a, b, len) in [(0, 64, 64), (0, 1024, 1024), (0, PIECE, PIECE), (4096, 8192, 4096)] {
            let swap = |weights: &mut [u8]| {
                let (left, right) = weights.split_at_mut(b);
                left[a..a + len].swap_with_slice(&mut right[..len]);
            };
            swap(&mut weights);
            assert_ne!(digest(&weights, 2), good, "{len} bytes at {a} and {b}");
            swap(&mut weights);
        }
        assert_ne!(digest(&weights[..weights.len() - 1], 2), good);
        assert_eq!(digest(&weights, 2), good);
    }
}
