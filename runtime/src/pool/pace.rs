//! Whether runs are divided among threads at all: two threads are not always faster than one. Processors may share a core, a
//! quota or a host that has given one of them to somebody else; then each task waits for the slower half. As that comes and
//! goes, runs are timed: while the divided ones take longer than one on the caller's thread alone, they are not divided.

use std::time::Duration;

/// Longer runs are always divided: trying out the other way would be noticed, and what slows small tasks does not slow them.
const LONGEST: Duration = Duration::from_millis(20);
/// Runs before the first is timed alone: they load code and data.
const WARM_RUNS: u32 = 4;
/// Runs that try the other way; the fastest counts.
const TRIALS: u32 = 2;
/// Divided runs in a row that take as long as one alone, before it is tried again.
const SLOW_RUNS: u32 = 8;
/// Runs alone before dividing is tried again.
const ALONE_RUNS: u32 = 64;
/// How much faster the other way must be, in percent.
const GAIN: u32 = 5;

/// What is known of the runs with some shapes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    phase: Phase,
    /// Runs in this phase.
    runs: u32,
    /// The fastest of them.
    best: Option<Duration>,
    /// Time of a run of each kind when it was tried last.
    divided: Option<Duration>,
    alone: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Divided, for the first time.
    #[default]
    Warm,
    /// Divided; `runs` counts slow ones in a row.
    Divided,
    TryAlone,
    Alone,
    TryDivided,
    /// Divided for good.
    Long,
}

impl Pace {
    /// True if the next run is divided.
    pub(crate) fn divides(&self) -> bool {
        !matches!(self.phase, Phase::TryAlone | Phase::Alone)
    }

    /// True if it matters how long the next run takes.
    pub(crate) fn watches(&self) -> bool {
        self.phase != Phase::Long
    }

    /// Notes what a run took.
    pub(crate) fn note(&mut self, took: Duration) {
        self.best = Some(self.best.map_or(took, |best| best.min(took)));
        self.runs += 1;
        match self.phase {
            Phase::Long => {}
            Phase::Warm if took > LONGEST => self.enter(Phase::Long),
            Phase::Warm if self.runs >= WARM_RUNS => {
                self.divided = self.best;
                self.enter(Phase::TryAlone);
            }
            Phase::Divided if !self.alone.is_some_and(|alone| is_slow(took, alone)) => self.enter(Phase::Divided),
            Phase::Divided if self.runs >= SLOW_RUNS => {
                self.divided = self.best;
                self.enter(Phase::TryAlone);
            }
            Phase::TryAlone if self.runs >= TRIALS => {
                self.alone = self.best;
                self.choose();
            }
            Phase::Alone if self.runs >= ALONE_RUNS => {
                self.alone = self.best;
                self.enter(Phase::TryDivided);
            }
            Phase::TryDivided if self.runs >= TRIALS => {
                self.divided = self.best;
                self.choose();
            }
            _ => {}
        }
    }

    fn choose(&mut self) {
        let alone = self.divided.zip(self.alone).is_some_and(|(divided, alone)| is_slow(divided, alone));
        self.enter(if alone { Phase::Alone } else { Phase::Divided });
    }

    fn enter(&mut self, phase: Phase) {
        (self.phase, self.runs, self.best) = (phase, 0, None);
    }
}

/// True if a divided run gains too little over one alone.
fn is_slow(divided: Duration, alone: Duration) -> bool {
    divided * 100 > alone * (100 - GAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times of `runs` runs of a model, given how long it takes divided and alone, in microseconds; how many were divided.
    fn run(pace: &mut Pace, runs: u32, divided: u64, alone: u64) -> u32 {
        let mut count = 0;
        for _ in 0..runs {
            let divides = pace.divides();
            count += u32::from(divides);
            pace.note(Duration::from_micros(if divides { divided } else { alone }));
        }
        count
    }

    #[test]
    fn what_is_faster_divided_stays_divided() {
        let mut pace = Pace::default();
        assert_eq!(run(&mut pace, 1000, 600, 1000), 1000 - TRIALS);
    }

    #[test]
    fn what_is_slower_divided_is_not_divided() {
        let mut pace = Pace::default();
        let divided = run(&mut pace, 1000, 1700, 1000);
        assert!(divided < 1000 / 20, "{divided} of 1000 runs are divided");
    }

    #[test]
    fn it_follows_when_the_times_change() {
        let mut pace = Pace::default();
        run(&mut pace, 100, 600, 1000);
        run(&mut pace, 2 * SLOW_RUNS, 2500, 1000);
        let divided = run(&mut pace, 500, 2500, 1000);
        assert!(divided < 500 / 20, "{divided} of 500 slow runs are divided");
        run(&mut pace, 2 * ALONE_RUNS, 600, 1000);
        let divided = run(&mut pace, 500, 600, 1000);
        assert_eq!(divided, 500, "fast runs are divided again");
    }

    #[test]
    fn a_slow_run_now_and_then_changes_nothing() {
        let mut pace = Pace::default();
        run(&mut pace, 100, 600, 1000);
        for _ in 0..100 {
            assert_eq!(run(&mut pace, 3, 2500, 1000) + run(&mut pace, 1, 600, 1000), 4);
        }
    }

    #[test]
    fn long_runs_are_divided() {
        let mut pace = Pace::default();
        assert_eq!(run(&mut pace, 100, 30_000, 20_000), 100);
        assert!(!pace.watches());
    }
}
