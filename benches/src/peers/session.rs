//! One run: every program on every file in turns, and what came out so far.

use crate::facts::Facts;
use crate::lanes::Lanes;
use crate::programs::{LARGE, LlamaCpp, Plan, VARIANTS, Variant};
use crate::{large, reference, tables, targets};
use anyhow::{Context, Result};
use bitnet_benchmarks::figures::{Figures, Key, Test};
use bitnet_benchmarks::machine::{self, with};
use bitnet_benchmarks::report::Report;
use bitnet_benchmarks::synthetic::Recipe;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// A file by name and path, and whether llama.cpp knows it.
pub(crate) type File = (&'static str, PathBuf, bool);

/// The tests of a piece, which one lane runs without a pause.
#[derive(Clone, Copy)]
enum What {
    /// Every program on a file.
    Speeds,
    /// Every program behind a long context of [`LARGE`], and with all threads on a long prompt.
    Long,
    /// Every program on many texts of [`LARGE`] at once.
    Together,
}

/// A piece of a round: a file, threads, and which tests.
type Job<'a> = (&'a File, usize, What);

/// One run: the programs, and their figures so far.
pub(crate) struct Session<'a> {
    plan: Plan,
    bitnet: &'a Path,
    llama: Option<LlamaCpp<'a>>,
    lanes: &'a Lanes,
    found: Mutex<Found>,
}

struct Found {
    figures: Figures,
    facts: Vec<Facts>,
    report: Report,
    /// llama.cpp failed and is left out.
    alone: bool,
}

impl<'a> Session<'a> {
    /// Nothing measured yet; `report` has the head.
    pub(crate) fn new(
        plan: Plan,
        bitnet: &'a Path,
        llama: Option<LlamaCpp<'a>>,
        lanes: &'a Lanes,
        report: Report,
    ) -> Self {
        let found = Found {
            figures: Figures::default(),
            facts: Vec::new(),
            report,
            alone: false,
        };
        Self {
            plan,
            bitnet,
            llama,
            lanes,
            found: Mutex::new(found),
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        // A lane that panicked leaves whole figures.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the files that are missing, as many at once as there are lanes, and reads what is in each.
    pub(crate) fn files(&self, files: &[(Recipe, bool)], work: &Path) -> Result<Vec<File>> {
        self.side_by_side(files, |(recipe, _)| {
            recipe.file(self.bitnet, work).map(drop)
        })?;
        let mut paths = Vec::new();
        for (recipe, llama) in files {
            let path = recipe.file(self.bitnet, work)?;
            self.found().facts.push(Facts::read(recipe.name, &path)?);
            paths.push((recipe.name, path, *llama));
        }
        Ok(paths)
    }

    /// All rounds. What was found so far is written to the folder `so_far` after each piece: a run takes long, and that is worth
    /// having if it is stopped.
    pub(crate) fn run(&self, files: &[File], so_far: &Path) -> Result<()> {
        let rounds = self.plan.rounds;
        for round in 1..=rounds {
            let jobs = self.jobs(files)?;
            let left = Mutex::new(jobs.len());
            self.side_by_side(&jobs, |job| {
                self.job(round, job)?;
                let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
                *left -= 1;
                let mut report = self.report();
                report.note(format!(
                    "Stopped in round {round} of {rounds}, when {} of {} pieces were done.",
                    jobs.len() - *left,
                    jobs.len()
                ));
                report.write(so_far)?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The pieces of a round, those that take longest first, so that no lane has one left when the others are done.
    fn jobs<'f>(&self, files: &'f [File]) -> Result<Vec<Job<'f>>> {
        let mut sized = Vec::new();
        for file in files {
            let bytes = std::fs::metadata(&file.1)
                .with_context(|| format!("cannot look at {}", file.1.display()))?
                .len();
            sized.push((bytes, file));
        }
        sized.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let mut jobs = Vec::new();
        let threads = self.lanes.threads();
        if let Some(large) = files.iter().find(|(name, ..)| *name == LARGE) {
            jobs.extend(
                threads
                    .iter()
                    .rev()
                    .map(|&threads| (large, threads, What::Long)),
            );
            jobs.extend(threads.last().map(|&all| (large, all, What::Together)));
        }
        for (_, file) in sized {
            jobs.extend(threads.iter().map(|&threads| (file, threads, What::Speeds)));
        }
        Ok(jobs)
    }

    /// Does `each` for every item, in as many threads as there are lanes, each on its cores, until one fails.
    fn side_by_side<T: Sync>(
        &self,
        items: &[T],
        each: impl Fn(&T) -> Result<()> + Sync,
    ) -> Result<()> {
        let queue: Mutex<VecDeque<&T>> = Mutex::new(items.iter().collect());
        let next = || {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.pop_front()
        };
        let lane = |index: usize| -> Result<()> {
            self.lanes.enter(index)?;
            while let Some(item) = next() {
                if let Err(error) = each(item) {
                    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    queue.clear();
                    return Err(error);
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let lane = &lane;
            let lanes: Vec<_> = (0..self.lanes.count())
                .map(|index| scope.spawn(move || lane(index)))
                .collect();
            lanes.into_iter().try_for_each(|lane| match lane.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    /// The machine as it is now, then the programs.
    fn job(&self, round: usize, &((name, path, llama), threads, what): &Job<'_>) -> Result<()> {
        self.machine(threads);
        let place = (*name, threads);
        match what {
            What::Speeds => self.turn(round, place, path, *llama),
            What::Long => self.long_turn(round, place, path),
            What::Together => self.together_turn(round, place, path),
        }
    }

    fn machine(&self, threads: usize) {
        let bandwidth = machine::read_bandwidth(threads);
        let peak = machine::int8_peak(threads);
        let figures = &mut self.found().figures;
        figures.add(Key::machine(threads, Test::Bandwidth), bandwidth);
        if let Some(peak) = peak {
            figures.add(Key::machine(threads, Test::Int8Peak), peak.rate);
        }
    }

    /// The report with the figures so far.
    fn report(&self) -> Report {
        let found = self.found();
        let mut report = found.report.clone();
        let (figures, facts, threads) = (&found.figures, &found.facts, self.lanes.threads());
        tables::tell(figures, facts, &self.plan, threads, &mut report);
        targets::tell(figures, facts, &self.plan, threads, &mut report);
        large::tell(figures, &self.plan, threads, &mut report);
        report.tables.push(reference::table());
        report
    }

    /// The report at the end: with figures, if any file was measured.
    pub(crate) fn finish(self) -> Report {
        if self.found().facts.is_empty() {
            return self.found().report.clone();
        }
        self.report()
    }

    /// Every program once on one file.
    fn turn(
        &self,
        round: usize,
        (file, threads): (&'static str, usize),
        path: &Path,
        llama_knows: bool,
    ) -> Result<()> {
        let plan = self.plan;
        let variants = VARIANTS.iter().filter(|it| it.applies(file, threads));
        for variant in variants {
            self.ours(round, variant, (file, threads), "", |bitnet| {
                variant.run(bitnet, path, threads, &plan)
            })?;
        }
        if llama_knows {
            self.theirs(round, (file, threads), "", |llama| {
                llama.run(path, threads, &plan)
            });
        }
        Ok(())
    }

    /// A long context, and with all threads a long prompt.
    fn long_turn(&self, round: usize, place: (&'static str, usize), path: &Path) -> Result<()> {
        let (plan, threads) = (self.plan, place.1);
        let all = self.lanes.threads().last() == Some(&threads);
        let long = format!(", {} tokens deep", plan.depth);
        for variant in large::variants() {
            self.ours(round, variant, place, &long, |bitnet| {
                variant.long(bitnet, path, threads, &plan, all)
            })?;
        }
        self.theirs(round, place, &long, |llama| {
            Ok((llama.long(path, threads, &plan, all)?, Vec::new()))
        });
        Ok(())
    }

    /// Many texts at once.
    fn together_turn(&self, round: usize, place: (&'static str, usize), path: &Path) -> Result<()> {
        let (plan, threads) = (self.plan, place.1);
        for variant in large::variants() {
            self.ours(round, variant, place, ", many texts", |bitnet| {
                variant.parallel(bitnet, path, threads, &plan)
            })?;
        }
        self.theirs(round, place, ", many texts", |llama| {
            Ok((llama.parallel(path, threads, &plan)?, Vec::new()))
        });
        Ok(())
    }

    /// One run of ours, which may not fail.
    fn ours(
        &self,
        round: usize,
        variant: &Variant,
        (file, threads): (&'static str, usize),
        how: &str,
        run: impl FnOnce(&Path) -> Result<Vec<(Test, f64)>>,
    ) -> Result<()> {
        let what = format!("{}, {file}, {}{how}", variant.name, with(threads));
        self.step(round, &what);
        let results = run(self.bitnet).with_context(|| what)?;
        let figures = &mut self.found().figures;
        figures.add_all(file, variant.name, threads, results);
        Ok(())
    }

    /// One run of llama.cpp, which is named and left out from then on if it fails.
    fn theirs(
        &self,
        round: usize,
        (file, threads): (&'static str, usize),
        how: &str,
        run: impl FnOnce(&LlamaCpp<'_>) -> Result<crate::programs::Turn>,
    ) {
        let Some(llama) = self.llama.as_ref().filter(|_| !self.found().alone) else {
            return;
        };
        let what = format!("{}, {file}, {}{how}", LlamaCpp::NAME, with(threads));
        self.step(round, &what);
        let outcome = run(llama);
        let mut found = self.found();
        match outcome {
            Ok((results, ended)) => {
                let limit = llama.limit.unwrap_or_default().as_secs();
                for test in ended {
                    let test = targets::what(test);
                    let note = format!(
                        "{what}: {test} was ended after {limit} s; its figure is the most that it can have been."
                    );
                    if !found.report.notes.contains(&note) {
                        found.report.note(note);
                    }
                }
                let figures = &mut found.figures;
                figures.add_all(file, LlamaCpp::NAME, threads, results);
            }
            Err(error) => {
                let why = format!("llama.cpp is left out from here on: {what}: {error:#}");
                eprintln!("bench-peers: {why}");
                found.report.note(why);
                found.alone = true;
            }
        }
    }

    fn step(&self, round: usize, what: &str) {
        eprintln!("bench-peers: round {round} of {}: {what}", self.plan.rounds);
    }
}
