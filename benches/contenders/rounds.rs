use std::time::Duration;

/// One of the programs that are compared. It repeats its work a given number of times and returns the time that took.
pub struct Contender<'a> {
    name: &'static str,
    run: Box<dyn FnMut(u32) -> Duration + 'a>,
}

impl<'a> Contender<'a> {
    /// Returns a contender whose work is timed.
    pub fn new(name: &'static str, mut work: impl FnMut(u32) + 'a) -> Self {
        Self::timed(name, move |times| {
            let clock = quanta::Instant::now();
            work(times);
            clock.elapsed()
        })
    }

    /// Returns a contender that measures its own time.
    pub fn timed(name: &'static str, run: impl FnMut(u32) -> Duration + 'a) -> Self {
        Self {
            name,
            run: Box::new(run),
        }
    }
}

impl std::fmt::Debug for Contender<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Contender").field(&self.name).finish()
    }
}

/// Runs the contenders in turns, round by round, and prints three medians for each: its nanoseconds, those minus the first
/// contender's, and the ratio of these to the second contender's.
///
/// Ratios are taken inside each round, since the speed of a machine drifts between rounds.
pub fn compare(title: &str, rounds: usize, times: u32, mut contenders: Vec<Contender<'_>>) {
    let mut taken = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..rounds + 1 {
        for turn in 0..contenders.len() {
            let at = (turn + round) % contenders.len();
            let nanos = (contenders[at].run)(times).as_nanos() as f64 / f64::from(times);
            // The first round warms up.
            if round > 0 {
                taken[at].push(nanos);
            }
        }
    }
    println!("\n{title}: median of {rounds} rounds of {times}");
    println!(
        "{:<22} {:>9} {:>12} {:>10}",
        "", "ns", "over first", "/ second"
    );
    for (contender, nanos) in contenders.iter().zip(&taken) {
        let over = |round: usize| nanos[round] - taken[0][round];
        let over_first = median((0..rounds).map(over).collect());
        let ratio = |round: usize| over(round) / (taken[1][round] - taken[0][round]);
        let ratios = median((0..rounds).map(ratio).collect());
        println!(
            "{:<22} {:>9.1} {over_first:>12.1} {ratios:>10.2}",
            contender.name,
            median(nanos.clone()),
        );
    }
}

/// Returns the median of some numbers.
///
/// # Panics
///
/// If there are none.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
