//! The report: a table for the terminal, Markdown and JSON to keep, an HTML page to look at.

use crate::chart::{self, Theme, escape};
use crate::target::{Target, Validation, Verdict};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;

/// Target, measured, met: in columns, each note below its row.
pub(crate) fn table(validation: &Validation) -> String {
    let cells: Vec<[&str; 4]> = std::iter::once(["", "target", "measured", "met"])
        .chain(validation.targets.iter().map(cells))
        .collect();
    let width = |column: usize| {
        let widths = cells.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let (what, target, measured) = (width(0), width(1), width(2));
    let notes = std::iter::once("").chain(validation.targets.iter().map(|t| t.note.as_str()));
    let mut out = String::new();
    for (row, note) in cells.iter().zip(notes) {
        let [a, b, c, d] = row;
        line(
            &mut out,
            &format!("{a:<what$}  {b:<target$}  {c:<measured$}  {d}"),
        );
        if !note.is_empty() {
            line(&mut out, &format!("    {note}"));
        }
    }
    for note in &validation.notes {
        line(&mut out, note);
    }
    let met = validation
        .targets
        .iter()
        .filter(|t| t.met == Verdict::Met)
        .count();
    line(
        &mut out,
        &format!("{met} of {} met", validation.targets.len()),
    );
    out
}

fn cells(target: &Target) -> [&str; 4] {
    [
        &target.what,
        &target.target,
        &target.measured,
        target.met.word(),
    ]
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

/// Writes all forms of the report to `folder`.
pub(crate) fn write(validation: &Validation, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let save = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    save(
        "validate.json",
        &format!("{}\n", serde_json::to_string_pretty(validation)?),
    )?;
    save("validate.md", &markdown(validation))?;
    save("index.html", &html(validation))?;
    for chart in &validation.charts {
        save(
            &format!("{}-light.svg", chart.name),
            &chart::svg(chart, Theme::Light),
        )?;
        save(
            &format!("{}-dark.svg", chart.name),
            &chart::svg(chart, Theme::Dark),
        )?;
    }
    Ok(())
}

fn markdown(validation: &Validation) -> String {
    let mut out = String::from("# Targets and measurements\n\n");
    line(
        &mut out,
        &format!(
            "Written by `cargo xtask validate` on {}.\n",
            validation.machine.join(", ")
        ),
    );
    out.push_str("| what | target | measured | met | note |\n| --- | --- | --- | --- | --- |\n");
    for target in &validation.targets {
        let cells = cells(target).map(|cell| cell.replace('|', "\\|"));
        let note = target.note.replace('|', "\\|");
        line(&mut out, &format!("| {} | {note} |", cells.join(" | ")));
    }
    out.push('\n');
    for note in &validation.notes {
        line(&mut out, &format!("- {note}"));
    }
    for chart in &validation.charts {
        out.push('\n');
        line(
            &mut out,
            &format!("![{}]({}-light.svg)", chart.title, chart.name),
        );
    }
    out
}

fn html(validation: &Validation) -> String {
    let mut rows = String::new();
    for target in &validation.targets {
        let class = match target.met {
            Verdict::Met => "met",
            Verdict::Unmet => "unmet",
            Verdict::Unmeasured => "open",
        };
        let [what, asked, measured, met] = cells(target).map(escape);
        let note = escape(&target.note);
        writeln!(
            rows,
            "<tr class=\"{class}\"><th scope=\"row\">{what}<small>{note}</small></th><td>{asked}</td><td>{measured}</td>\
             <td><span>{met}</span></td></tr>"
        )
        .ok();
    }
    let mut notes = String::new();
    for note in &validation.notes {
        writeln!(notes, "<li>{}</li>", escape(note)).ok();
    }
    let mut charts = String::new();
    for chart in &validation.charts {
        writeln!(
            charts,
            "<figure>{}</figure>",
            chart::svg(chart, Theme::Both)
        )
        .ok();
    }
    let met = validation
        .targets
        .iter()
        .filter(|t| t.met == Verdict::Met)
        .count();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>BitNet-Rust: targets and measurements</title>\n<style>{STYLE}</style></head>\n<body><main>\n\
         <h1>Targets and measurements</h1>\n\
         <p class=\"lead\"><b>{met} of {}</b> targets met on {}.</p>\n\
         <table><thead><tr><th>what</th><th>target</th><th>measured</th><th>met</th></tr></thead>\n<tbody>{rows}</tbody></table>\n\
         <ul>{notes}</ul>\n\
         <p>Times are medians; ratios are medians of the ratios of neighbouring turns, all contenders taking turns in one \
         run. Written by <code>cargo xtask validate</code>; the numbers are in <a href=\"validate.json\">validate.json</a>.</p>\n\
         <div class=\"charts\">{charts}</div>\n</main></body></html>\n",
        validation.targets.len(),
        escape(&validation.machine.join(", ")),
    )
}

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#0f172a;--dim:#475569;--line:#e2e8f0;--met:#047857;--unmet:#b91c1c}\
@media (prefers-color-scheme:dark){:root{--paper:#0f172a;--ink:#f1f5f9;--dim:#94a3b8;--line:#334155;--met:#34d399;--unmet:#f87171}}\
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
main{max-width:1000px;margin:0 auto;padding:2rem 1rem}\
h1{font-size:1.7rem;margin:0}.lead,ul,p{color:var(--dim)}.lead b{color:var(--ink)}\
table{width:100%;border-collapse:collapse;margin:1.5rem 0}\
th,td{text-align:left;vertical-align:top;padding:.5rem .6rem;border-bottom:1px solid var(--line);font-weight:400}\
thead th{color:var(--dim);font-size:.85rem}small{display:block;color:var(--dim)}\
td span{font-weight:600}.met span{color:var(--met)}.unmet span{color:var(--unmet)}.open span{color:var(--dim)}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:1rem}\
figure{margin:0;border:1px solid var(--line);border-radius:8px;overflow:hidden}figure svg{display:block;width:100%}";
