//! Which node of a graph must wait for which: two that touch the same bytes keep their order, unless both only read.

use std::collections::BTreeMap;

/// Who touched which bytes so far.
#[derive(Default)]
pub(super) struct Ranges {
    spans: BTreeMap<u64, Span>,
}

struct Span {
    end: u64,
    writer: Option<u32>,
    readers: Vec<u32>,
}

impl Ranges {
    /// Notes that `node` reads bytes `start..end`; whom it must wait for is added to `after`.
    pub(super) fn read(&mut self, start: u64, end: u64, node: u32, after: &mut Vec<u32>) {
        self.cut(start);
        self.cut(end);
        let mut gaps = Vec::new();
        let mut covered = start;
        for (&at, span) in self.spans.range_mut(start..end.max(start)) {
            after.extend(span.writer);
            span.readers.push(node);
            gaps.push((covered, at));
            covered = span.end;
        }
        gaps.push((covered, end));
        for (start, end) in gaps.into_iter().filter(|(start, end)| start < end) {
            self.spans.insert(start, Span { end, writer: None, readers: vec![node] });
        }
    }

    /// As [`Ranges::read`], for bytes that `node` may write.
    pub(super) fn write(&mut self, start: u64, end: u64, node: u32, after: &mut Vec<u32>) {
        if start >= end {
            return;
        }
        self.cut(start);
        self.cut(end);
        let replaced: Vec<u64> = self.spans.range(start..end).map(|(&at, _)| at).collect();
        for at in replaced {
            if let Some(span) = self.spans.remove(&at) {
                after.extend(span.writer);
                after.extend(span.readers);
            }
        }
        self.spans.insert(start, Span { end, writer: Some(node), readers: Vec::new() });
    }

    /// Makes sure that no span reaches across `at`.
    fn cut(&mut self, at: u64) {
        let Some((_, span)) = self.spans.range_mut(..at).next_back() else { return };
        if span.end > at {
            let rest = Span { end: span.end, writer: span.writer, readers: span.readers.clone() };
            span.end = at;
            self.spans.insert(at, rest);
        }
    }
}

/// Sorts a list of nodes to wait for, and drops those that another of them waits for anyway.
pub(super) fn simplify(after: &mut Vec<u32>, node: u32, lists: &[Vec<u32>]) {
    after.sort_unstable();
    after.dedup();
    after.retain(|&other| other != node);
    let implied: Vec<u32> = after.iter().flat_map(|&other| lists[other as usize].iter().copied()).collect();
    after.retain(|other| !implied.contains(other));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_found_byte_by_byte() {
        let mut ranges = Ranges::default();
        let mut check = |is_write: bool, range: std::ops::Range<u64>, node: u32, expected: &[u32]| {
            let mut after = Vec::new();
            match is_write {
                true => ranges.write(range.start, range.end, node, &mut after),
                false => ranges.read(range.start, range.end, node, &mut after),
            }
            after.sort_unstable();
            after.dedup();
            assert_eq!(after, expected, "node {node}");
        };
        check(true, 0..100, 0, &[]);
        check(true, 200..300, 1, &[]);
        check(false, 50..250, 2, &[0, 1]);
        check(false, 50..60, 3, &[0]);
        check(true, 90..110, 4, &[0, 2]);
        check(true, 0..55, 5, &[0, 2, 3]);
        check(false, 0..300, 6, &[0, 1, 4, 5]);
        check(true, 150..151, 7, &[2, 6]);
        check(true, 400..400, 8, &[]);
    }

    #[test]
    fn implied_edges_are_dropped() {
        let lists = [vec![], vec![0], vec![1], vec![]];
        let mut after = vec![3, 2, 1, 1, 0];
        simplify(&mut after, 4, &lists);
        assert_eq!(after, [2, 3]);
    }
}
