//! Which pairs of NATs can connect, by trying.

use core::{fmt::Write as _, time::Duration};

use super::{Mode, Trial, punch};
use crate::{
    dice::Dice,
    net::nat::{Alloc, Conflict, Filtering, Mapping, NatError, NatMix, NatModel, Scope},
};

/// The classes of the matrix, in the order of its rows and columns.
pub const CLASSES: [&str; 11] = [
    "OPEN",
    "FW",
    "EIM/EIF",
    "EIM/ADF",
    "EIM/APDF",
    "ADM/EIF",
    "ADM/ADF",
    "ADM/APDF",
    "APDM/EIF",
    "APDM/ADF",
    "APDM/APDF",
];

/// Trials per cell: 11 × 11 cells in 6 blocks make 3,630.
pub const TRIALS: u8 = 5;

/// The matrix as it was measured before this simulator was, by other means: what [`render`] of [`nat_matrix`] must give.
pub const RECORDED: &str = include_str!("../../../data/nat_matrix.txt");

/// One table: all pairs of classes under one scope and mode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// To what filters' memory belongs.
    pub scope: Scope,
    /// How hosts try.
    pub mode: Mode,
    /// By class of A, then class of B: whether they connect in all trials.
    pub cells: Vec<Vec<bool>>,
    /// Cells in which some trials succeeded and some did not. Zero, or the outcome depends on more than classes.
    pub mixed: u32,
}

/// A model of a class of [`CLASSES`], by its number. Ways to choose ports differ from trial to trial; they must not matter.
pub fn class_model(class: usize, scope: Scope, trial: u8) -> NatModel {
    let Some(nth) = class.checked_sub(2) else {
        return if class == 0 { NatModel::open() } else { NatModel::firewall() };
    };
    let (alloc, on_conflict) = match trial {
        0 => (Alloc::Preserve, Conflict::Next),
        1 => (Alloc::Random, Conflict::Next),
        2 => (Alloc::Sequential { stride: 1 }, Conflict::Next),
        3 => (Alloc::Preserve, Conflict::Random),
        _ => (Alloc::Block { base: 1024, len: 512 }, Conflict::Next),
    };
    NatModel {
        mapping: [Mapping::Eim, Mapping::Adm, Mapping::Apdm][nth / 3],
        filtering: [Filtering::Eif, Filtering::Adf, Filtering::Apdf][nth % 3],
        scope,
        alloc,
        on_conflict,
        ..NatModel::default()
    }
}

/// Who starts how much later, by trial.
fn skew(trial: u8) -> (Duration, Duration) {
    let millis = |a, b| (Duration::from_millis(a), Duration::from_millis(b));
    match trial {
        0 => millis(0, 0),
        1 => millis(0, 35),
        2 => millis(35, 0),
        3 => millis(0, 700),
        _ => millis(700, 0),
    }
}

/// How many trials of a pair succeed.
fn successes(mode: Mode, seed: u64, model: impl Fn(u8) -> [NatModel; 2]) -> Result<u8, NatError> {
    let mut ok = 0;
    for n in 0..TRIALS {
        let [a, b] = model(n);
        let trial = Trial { skew: skew(n), ..Trial::new(mode, seed * u64::from(TRIALS) + u64::from(n)) };
        ok += u8::from(punch(&[a], &[b], &trial)?);
    }
    Ok(ok)
}

/// Tries all pairs of classes in all modes and scopes: 3,630 trials in which packets pass through [`Nat`](crate::net::nat::Nat)s.
pub fn nat_matrix() -> Vec<Block> {
    let mut blocks = Vec::new();
    for scope in [Scope::Endpoint, Scope::Mapping] {
        for mode in [Mode::Ice, Mode::Fixed, Mode::Alternating] {
            let mut block = Block { scope, mode, cells: Vec::new(), mixed: 0 };
            for a in 0..CLASSES.len() {
                let mut row = Vec::new();
                for b in 0..CLASSES.len() {
                    let models = |n| [class_model(a, scope, n), class_model(b, scope, n)];
                    let seed = (a * CLASSES.len() + b) as u64;
                    let ok = successes(mode, seed, models).expect("the classes' models are valid");
                    row.push(ok == TRIALS);
                    block.mixed += u32::from(ok != 0 && ok != TRIALS);
                }
                block.cells.push(row);
            }
            blocks.push(block);
        }
    }
    blocks
}

/// The matrix as text, in the format of [`RECORDED`].
pub fn render(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        let scope = if block.scope == Scope::Endpoint { "ep" } else { "map" };
        let header: String = CLASSES.iter().map(|class| format!("{class:<10}")).collect();
        // Cells are padded like the header, whose last name is one short of its column.
        let lines = block.cells.iter().zip(CLASSES).map(|(row, class)| {
            let cells: Vec<_> = row.iter().map(|ok| format!("{:<9}", if *ok { 'Y' } else { '.' })).collect();
            format!("{class:<10} {}\n", cells.join(" "))
        });
        let lines: String = lines.collect();
        write!(text, "\nscope {scope} mode {} (row=A, col=B)\n{:11}{}\n{lines}", block.mode, "", header.trim_end())
            .expect("strings take all");
    }
    text
}

/// Which part of all pairs of a population connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// With fixed roles, in parts per million.
    pub fixed_ppm: u64,
    /// With alternating roles, in parts per million.
    pub alternating_ppm: u64,
}

/// The success rates of a population by packet-level trials of each ordered pair of its models, weighted by their shares. A pair
/// counts with the part of its trials that succeed.
pub fn rates(mix: &NatMix) -> Result<Rates, NatError> {
    let weigh = |mode| -> Result<u64, NatError> {
        let mut sum = 0_u128;
        for (i, a) in mix.shares().iter().enumerate() {
            for (j, b) in mix.shares().iter().enumerate() {
                let models = |_| [a.model.clone(), b.model.clone()];
                let ok = successes(mode, (i * mix.shares().len() + j) as u64, models)?;
                sum += u128::from(a.weight_ppm) * u128::from(b.weight_ppm) * u128::from(ok);
            }
        }
        Ok(u64::try_from(sum / (1_000_000 * u128::from(TRIALS))).unwrap_or(u64::MAX))
    };
    Ok(Rates { fixed_ppm: weigh(Mode::Fixed)?, alternating_ppm: weigh(Mode::Alternating)? })
}

/// How many of so many pairs, drawn from a population, connect: one packet-level trial each.
pub fn sample(mix: &NatMix, mode: Mode, pairs: u64, seed: u64) -> Result<u64, NatError> {
    let mut dice = Dice::from_seed(seed);
    let mut ok = 0;
    for pair in 0..pairs {
        let (a, b) = (mix.pick(&mut dice, pair, 0), mix.pick(&mut dice, pair, 1));
        let n = u8::try_from(pair % u64::from(TRIALS)).unwrap_or(0);
        let trial = Trial { skew: skew(n), ..Trial::new(mode, seed ^ pair) };
        ok += u64::from(punch(&[a], &[b], &trial)?);
    }
    Ok(ok)
}
