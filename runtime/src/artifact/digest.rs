//! BLAKE3 on several threads. The digest is the one of [`blake3::hash`]: BLAKE3 is a tree, whose subtrees can be digested
//! apart, and the weights, which are nearly all of a file, would else keep one thread busy for as long as a first run.

use std::sync::atomic::{AtomicUsize, Ordering};

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Bytes that a thread digests at a time. A power of two from BLAKE3's chunk of 1024 on, so that each piece is a subtree;
/// small enough that all threads end at nearly the same time.
const PIECE: usize = 1 << 20;

/// BLAKE3 digest of `bytes`, made by up to `threads` threads, the caller's included.
pub(crate) fn digest(bytes: &[u8], threads: usize) -> blake3::Hash {
    if bytes.len() <= PIECE || threads <= 1 {
        return blake3::hash(bytes);
    }
    root(&subtrees(bytes, PIECE, threads))
}

/// Digests of the pieces, in order. There are at least two.
fn subtrees(bytes: &[u8], piece: usize, threads: usize) -> Vec<ChainingValue> {
    let count = bytes.len().div_ceil(piece);
    let next = AtomicUsize::new(0);
    let take = || {
        let mut taken = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(begin) = number.checked_mul(piece).filter(|&begin| begin < bytes.len()) else { return taken };
            let content = &bytes[begin..bytes.len().min(begin + piece)];
            let subtree = Hasher::new().set_input_offset(begin as u64).update(content).finalize_non_root();
            taken.push((number, subtree));
        }
    };
    let mut ordered = vec![ChainingValue::default(); count];
    std::thread::scope(|scope| {
        let helper = |_| std::thread::Builder::new().name("xlac-digest".into()).spawn_scoped(scope, take).ok();
        let helpers: Vec<_> = (1..threads.min(count)).map_while(helper).collect();
        let mut done = take();
        for helper in helpers {
            // Nothing in a helper panics; if it did, its pieces would stay zero and the digest would differ.
            done.extend(helper.join().unwrap_or_default());
        }
        done.into_iter().for_each(|(number, subtree)| ordered[number] = subtree);
    });
    ordered
}

/// The digest of a whole tree from those of its pieces, of which there are at least two.
fn root(pieces: &[ChainingValue]) -> blake3::Hash {
    let (left, right) = pieces.split_at(left_count(pieces.len()));
    merge_subtrees_root(&inner(left), &inner(right), Mode::Hash)
}

fn inner(pieces: &[ChainingValue]) -> ChainingValue {
    if let [one] = pieces {
        return *one;
    }
    let (left, right) = pieces.split_at(left_count(pieces.len()));
    merge_subtrees_non_root(&inner(left), &inner(right), Mode::Hash)
}

/// Pieces of the left subtree: the largest power of two that leaves something for the right one.
fn left_count(count: usize) -> usize {
    count.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    #[test]
    fn short_contents_have_the_plain_digest() {
        for len in [0, 1, 1023, 1024, 1025, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1, 5 * PIECE - 1023] {
            let bytes = content(len);
            for threads in 1..=4 {
                assert_eq!(digest(&bytes, threads), blake3::hash(&bytes), "{len} bytes, {threads} threads");
            }
        }
    }

    #[test]
    fn every_number_of_pieces_gives_the_plain_digest() {
        const CHUNK: usize = blake3::CHUNK_LEN;
        for count in 2..=33 {
            for len in [count * CHUNK, count * CHUNK - 1, (count - 1) * CHUNK + 1] {
                let bytes = content(len);
                for threads in 1..=4 {
                    assert_eq!(root(&subtrees(&bytes, CHUNK, threads)), blake3::hash(&bytes), "{len}, {threads}");
                }
            }
        }
    }
}
