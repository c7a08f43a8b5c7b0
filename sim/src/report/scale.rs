//! From values to pixels, and where to put marks on an axis.

use super::format::{Unit, float};

/// Maps values onto pixels, linearly or by their logarithm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    /// Values from `low` to `high` onto pixels from `from` to `to`.
    pub(super) fn linear(low: f64, high: f64, from: f64, to: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, from, to, log: false }
    }

    /// The same by logarithm; values must be above 0.
    pub(super) fn log(low: f64, high: f64, from: f64, to: f64) -> Self {
        let low = low.max(f64::MIN_POSITIVE);
        let high = if high > low { high } else { low * 2.0 };
        Self { low: libm::log10(low), high: libm::log10(high), from, to, log: true }
    }

    /// The pixel, never outside of the plot.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = if self.log { libm::log10(value.max(f64::MIN_POSITIVE)) } else { value };
        self.from + ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0) * (self.to - self.from)
    }
}

/// About `most` round values within `low..=high`.
pub(super) fn ticks(low: f64, high: f64, most: u32) -> Vec<f64> {
    let rough = (high - low) / f64::from(most.max(1));
    if !(rough.is_finite() && rough > 0.0) {
        return vec![low];
    }
    let decade = decade_below(rough);
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * decade).find(|step| *step >= rough * 0.999);
    stepped(low, high, step.unwrap_or(decade * 10.0))
}

/// Round moments, in milliseconds: steps that a clock has.
pub(super) fn moments(high_ms: u64, most: u32) -> Vec<f64> {
    const STEPS: [u64; 25] = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000,
        600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000,
    ];
    const DAY: u64 = 86_400_000;
    let enough = |step: &u64| high_ms / step <= u64::from(most);
    let step = STEPS.into_iter().find(enough).unwrap_or_else(|| DAY * (high_ms / DAY / u64::from(most.max(1)) + 1));
    stepped(0.0, float(high_ms), float(step))
}

/// How a mark of [`moments`] reads.
pub(super) fn moment(ms: f64) -> String {
    let unit = |scale: f64, name: &str| format!("{}\u{a0}{name}", super::format::number(ms / scale));
    match ms {
        m if m <= 0.0 => "0".to_owned(),
        m if m < 1000.0 => unit(1.0, "ms"),
        m if m < 60_000.0 => unit(1000.0, "s"),
        m if m < 7_200_000.0 => unit(60_000.0, "min"),
        m if m < 172_800_000.0 => unit(3_600_000.0, "h"),
        m if m < 1e13 => unit(86_400_000.0, "d"),
        _ => format!("{}\u{a0}d", super::format::short(ms / 86_400_000.0)),
    }
}

/// Round values on a logarithmic axis, with a label and without: decades, or what a clock has, and 1-2-5 between; if there are
/// no two decades, these too have labels.
pub(super) fn log_ticks(low: f64, high: f64, unit: Unit) -> (Vec<f64>, Vec<f64>) {
    let scale = if let Unit::Time(micros) = unit { micros } else { 1.0 };
    let (low, high) = (low * scale, high * scale);
    let within = |ticks: Vec<f64>| -> Vec<f64> {
        ticks.into_iter().filter(|tick| *tick >= low * 0.999 && *tick <= high * 1.001).collect()
    };
    let each = |steps: &[f64]| {
        let mut ticks = Vec::new();
        let mut decade = decade_below(low);
        while decade <= high && ticks.len() < 400 {
            ticks.extend(steps.iter().map(|step| step * decade));
            decade *= 10.0;
        }
        if let Unit::Time(_) = unit {
            ticks.retain(|tick| *tick < 60e6);
            // Minutes, hours, days.
            let clock: &[f64] = if steps.len() > 1 {
                &[60e6, 120e6, 300e6, 600e6, 1200e6, 1800e6, 3600e6, 7200e6, 18e9, 36e9, 86.4e9]
            } else {
                &[60e6, 600e6, 3600e6, 36e9, 360e9]
            };
            ticks.extend(clock);
        }
        within(ticks)
    };
    let back = |ticks: Vec<f64>| -> Vec<f64> { ticks.into_iter().map(|tick| tick / scale).collect() };
    let (coarse, fine) = (each(&[1.0]), each(&[1.0, 2.0, 5.0]));
    if coarse.len() >= 2 { (back(coarse), back(fine)) } else { (back(fine), Vec::new()) }
}

/// Every mark, or every second, third and so on, until no label touches the next. Pairs of pixel and label.
pub(super) fn spaced(marks: impl IntoIterator<Item = (f64, String)>) -> Vec<(f64, String)> {
    let all: Vec<_> = marks.into_iter().collect();
    let touch = |a: &(f64, String), b: &(f64, String)| b.0 - a.0 < (width(&a.1) + width(&b.1)) / 2.0 + 4.0;
    (1..=all.len().max(1))
        .map(|step| all.iter().step_by(step).cloned().collect::<Vec<_>>())
        .find(|kept| !kept.windows(2).any(|pair| touch(&pair[0], &pair[1])))
        .unwrap_or_default()
}

/// About how wide a label is in a plot's type, in pixels; rather too much than too little.
pub(super) fn width(text: &str) -> f64 {
    super::format::len(text.chars().count()) * 6.4
}

fn stepped(low: f64, high: f64, step: f64) -> Vec<f64> {
    let first = (low / step - 1e-9).ceil();
    (0..200).map(|n| (first + f64::from(n)) * step).take_while(|tick| *tick <= high + step * 1e-9).collect()
}

/// The power of ten at or below a value, by multiplication, so that it is the same everywhere.
fn decade_below(value: f64) -> f64 {
    let mut decade = 1.0;
    while decade * 10.0 <= value && decade < 1e300 {
        decade *= 10.0;
    }
    while decade > value && decade > 1e-300 {
        decade /= 10.0;
    }
    decade
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(ticks(0.0, 2000.0, 4), [0.0, 500.0, 1000.0, 1500.0, 2000.0]);
        assert_eq!(ticks(0.93, 1.0, 4).len(), 4);
        assert_eq!(ticks(5.0, 5.0, 4), [5.0]);
        let moments: Vec<_> = moments(1_800_000, 6).into_iter().map(moment).collect();
        assert_eq!(
            moments,
            ["0", "5\u{a0}min", "10\u{a0}min", "15\u{a0}min", "20\u{a0}min", "25\u{a0}min", "30\u{a0}min"]
        );
        let time = Unit::Time(1.0);
        assert_eq!(log_ticks(900.0, 20e6, time).0, [1000.0, 1e4, 1e5, 1e6, 1e7]);
        assert_eq!(log_ticks(12.0, 99.0, time).0, [20.0, 50.0]);
        assert_eq!(log_ticks(1e6, 4000e6, time).0, [1e6, 1e7, 60e6, 600e6, 3600e6]);
        assert_eq!(log_ticks(1.0, 5e5, Unit::Bytes).0.len(), 6);
    }

    #[test]
    fn labels_never_touch() {
        let kept = spaced((0..50).map(|n| (f64::from(n) * 7.0, "1000".to_owned())));
        assert!(kept.windows(2).all(|pair| pair[1].0 - pair[0].0 >= width("1000")));
    }

    #[test]
    fn nothing_lies_outside_of_the_plot() {
        let scale = Scale::log(1.0, 1000.0, 40.0, 340.0);
        for value in [0.0, -1.0, 0.5, 1.0, 1e9, f64::INFINITY] {
            assert!((40.0..=340.0).contains(&scale.at(value)), "{value}");
        }
        assert_eq!(Scale::linear(3.0, 3.0, 0.0, 10.0).at(3.0), 0.0);
    }
}
