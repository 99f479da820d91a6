//! How long both directions take of a service that its provider does not wait long for.

use super::Report;
use crate::exit::Exit;
use crate::failure::Failure;
use std::time::Duration;

/// How long they wait, the network's part included.
const LIMIT: Duration = Duration::from_millis(250);

/// What was timed so far.
#[derive(Default)]
pub(super) struct Latency {
    times: Vec<Duration>,
    late: usize,
}

impl Latency {
    /// Takes how long an answer took; `None` for one that the gateway itself gave up, by its own deadline: that counts as all of the time.
    pub(super) fn took(&mut self, time: Option<Duration>) {
        self.late += usize::from(time.is_none());
        self.times.push(time.unwrap_or(LIMIT));
    }

    /// Tells how long, and what to do where that is long.
    ///
    /// # Errors
    /// When half of the answers or more would come too late.
    pub(super) fn tell(mut self, provider: &str, remedy: &str, report: &mut Report) -> Result<(), Failure> {
        self.times.sort_unstable();
        let Self { times, late } = self;
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let at = |place: usize| times.get(place).copied().unwrap_or_default();
        let (median, worst) = (at(times.len() / 2), at(times.len().saturating_sub(1)));
        let given_up = if late == 0 { String::new() } else { format!(", {late} given up by the gateway") };
        let detail = format!(
            "median {}, worst {} of {}{given_up} from here; {provider} waits {}",
            ms(median),
            ms(worst),
            times.len(),
            ms(LIMIT)
        );
        match (median < LIMIT, worst < LIMIT) {
            (true, true) => report.findings.fine("latency", detail),
            (true, false) => report.findings.watch("latency", detail, remedy),
            (false, _) => return Err(Failure::new(Exit::Unavailable, detail).remedy(remedy)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_gave_up_counts_and_fails_nobody_alone() {
        let told = |given_up: usize| {
            let mut latency = Latency::default();
            (0..20).for_each(|of| latency.took((of >= given_up).then_some(Duration::from_millis(2))));
            let mut report = Report::begin();
            latency.tell("a provider", "look", &mut report).map_err(|failure| failure.problem().to_owned())
        };
        assert_eq!([told(0), told(1), told(9)], [Ok(()), Ok(()), Ok(())]);
        let said = "median 250.0 ms, worst 250.0 ms of 20, 10 given up by the gateway from here; a provider waits 250.0 ms";
        assert_eq!(told(10), Err(said.to_owned()));
    }
}
