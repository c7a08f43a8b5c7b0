//! `peerwork sim nat-matrix`: which pairs of NATs can connect.

use peerwork_sim::net::{
    lab::{Block, CLASSES, RECORDED, TRIALS, nat_matrix as compute, rates, render},
    nat::{NatMix, Scope},
};
use serde_json::json;

use super::{args::NatMatrixArgs, watched::Bar};
use crate::{
    failure::Failure,
    out::{Out, Paint},
};

pub(super) fn nat_matrix(args: &NatMatrixArgs, out: Out) -> Result<(), Failure> {
    let bar = Bar::new("nat-matrix", 0, "  {prefix} {spinner} punching {elapsed}");
    let blocks = compute();
    let rates = rates(&NatMix::wild()).map_err(|error| Failure::new(error.to_string()))?;
    drop(bar);
    let table = render(&blocks);
    let recorded = recorded();
    let cells: Vec<Cell> = Cell::all(&blocks, &recorded).collect();
    let differ: Vec<&Cell> = cells.iter().filter(|cell| cell.recorded != Some(cell.connects)).collect();
    let mixed: u32 = blocks.iter().map(|block| block.mixed).sum();
    // Each cell agrees, and nothing else is in the table.
    let same = differ.is_empty() && mixed == 0 && table == RECORDED;
    let per_cent = |ppm: u64| ppm as f64 / 10_000.0;
    if args.csv {
        out.human(|| "scope,mode,a,b,connects,recorded".into())?;
        for cell in &cells {
            let Cell { scope, mode, a, b, connects, recorded } = cell;
            let recorded = recorded.map_or_else(String::new, |recorded| recorded.to_string());
            out.human(|| format!("{scope},{mode},{a},{b},{connects},{recorded}"))?;
        }
    } else {
        out.say(
            || {
                let cell = |cell: &&Cell| {
                    json!({
                        "scope": cell.scope,
                        "mode": cell.mode,
                        "a": cell.a,
                        "b": cell.b,
                        "connects": cell.connects,
                        "recorded": cell.recorded,
                    })
                };
                json!({
                    "event": "nat-matrix",
                    "as_recorded": same,
                    "trials": cells.len() * usize::from(TRIALS),
                    "cells": cells.len(),
                    "differences": differ.iter().map(cell).collect::<Vec<_>>(),
                    "mixed": mixed,
                    "punch_rate_fixed": per_cent(rates.fixed_ppm) / 100.0,
                    "punch_rate_alternating": per_cent(rates.alternating_ppm) / 100.0,
                })
            },
            || {
                let mut text = table.trim_start_matches('\n').to_owned();
                text += &format!(
                    "\n{:13}{:.1} % of the pairs of peers in the wild connect with fixed roles, {:.1} % with alternating ones\n",
                    "punch rates",
                    per_cent(rates.fixed_ppm),
                    per_cent(rates.alternating_ppm)
                );
                let trials = cells.len() * usize::from(TRIALS);
                let verb = if same { out.verb(Paint::Good, "as recorded") } else { out.verb(Paint::Bad, "DIFFERENT") };
                text += &format!("{verb}{} of {} cells differ, in {trials} trials", differ.len(), cells.len());
                for cell in &differ {
                    let Cell { scope, mode, a, b, connects, .. } = cell;
                    let found = if *connects { "connects" } else { "does not connect" };
                    text += &format!("\n{:13}scope {scope} mode {mode}: {a} to {b} {found}", "");
                }
                if mixed > 0 {
                    text += &format!("\n{:13}in {mixed} cells the outcome depends on more than the classes", "");
                }
                text
            },
        )?;
    }
    if same { Ok(()) } else { Err(Failure::Reported) }
}

/// One pair of classes.
struct Cell {
    scope: &'static str,
    mode: String,
    a: &'static str,
    b: &'static str,
    connects: bool,
    recorded: Option<bool>,
}

impl Cell {
    fn all<'a>(blocks: &'a [Block], recorded: &'a [Vec<Vec<bool>>]) -> impl Iterator<Item = Self> + 'a {
        blocks.iter().enumerate().flat_map(move |(n, block)| {
            let scope = if block.scope == Scope::Endpoint { "ep" } else { "map" };
            block.cells.iter().zip(CLASSES).enumerate().flat_map(move |(i, (row, a))| {
                row.iter().zip(CLASSES).enumerate().map(move |(j, (connects, b))| {
                    let recorded = recorded.get(n).and_then(|block| block.get(i)?.get(j).copied());
                    Self { scope, mode: block.mode.to_string(), a, b, connects: *connects, recorded }
                })
            })
        })
    }
}

/// The recorded table: blocks, rows, cells.
fn recorded() -> Vec<Vec<Vec<bool>>> {
    let mut blocks: Vec<Vec<Vec<bool>>> = Vec::new();
    for line in RECORDED.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("scope") => blocks.push(Vec::new()),
            Some(class) if CLASSES.contains(&class) && !words.clone().any(|word| CLASSES.contains(&word)) => {
                if let Some(block) = blocks.last_mut() {
                    block.push(words.map(|word| word == "Y").collect());
                }
            }
            _ => {}
        }
    }
    blocks
}
