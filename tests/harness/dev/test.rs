//! `cargo dev test`: all floors, one line of counts at the end.

use anyhow::{Result, bail};
use clap::Args;
use harness::{
    binaries, control_plane,
    postgres::{self, Durability, Postgres},
    python,
    redis::{self, Redis},
    rights, smtp,
    workdir::Workdir,
};

use super::{generate, run, setup};

/// Run every test: pure, room, control plane, journeys, chart. Sets the machine up first. Fails where a part could not start.
#[derive(Args)]
pub struct Test {
    /// Only tests whose name contains one of these words.
    words: Vec<String>,
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Test {
    pub async fn run(self) -> Result<()> {
        use setup::{CHROMIUM, KUBECTL, NAMES, NPM, POSTGRES, PROMETHEUS, PYTHON, REDIS};
        setup::ensure(&[POSTGRES, REDIS, NAMES, PROMETHEUS, KUBECTL, PYTHON, NPM, CHROMIUM]).await?;
        let folder = Workdir::temporary()?;
        let mut postgres = Postgres::start(&folder.join("postgres"), Durability::None).await?;
        let mut redis = Redis::start(&folder.join("redis")).await?;
        println!("PostgreSQL: {}\nRedis: {}\nKubernetes API: {}", postgres.origin, redis.origin, control_plane::plan());

        // Of the mail server that the API's rooms send through.
        let python = python::with(&[smtp::PACKAGE]).await?;
        let mut counts = Counts::default();
        let mut troubles = Vec::new();
        // The programs too, before the first test wants to start one.
        if let Err(error) = generate::build().await {
            troubles.push(format!("{error:#}"));
        }
        if troubles.is_empty() {
            let mut tests = run::cargo("test --workspace --no-fail-fast --");
            tests
                .args(&self.words)
                .env(postgres::URL_VARIABLE, postgres.url().as_str())
                .env(redis::URL_VARIABLE, redis.url.as_str())
                .env(smtp::PYTHON_VARIABLE, &python)
                .env(binaries::BUILT_VARIABLE, "1")
                .env(rights::AUDIT_VARIABLE, folder.join("audit"));
            let before = counts.failed;
            let succeeded = run::watch(tests, |line| counts.add_cargo(line)).await?;
            if !succeeded && counts.failed == before {
                troubles.push("cargo test failed without a failed test: see above".into());
            }
        }
        // After all journeys: what the operator is granted is what it used, no less and, where everything ran, no more. A right that it
        // needs and no journey reaches wants a journey.
        let compared = rights::compare(&folder.join("audit"))?;
        if compared.lacking.is_empty() {
            counts.passed += 1;
        } else {
            counts.failed += 1;
            println!("the operator lacks rights (manifests/base/operator.yaml): {}", compared.lacking.join("; "));
        }
        if self.words.is_empty() {
            if compared.in_vain.is_empty() {
                counts.passed += 1;
            } else {
                counts.failed += 1;
                let vain = compared.in_vain.join("; ");
                println!(
                    "no journey used these rights of the operator (helm/tenantry/templates/rbac/_rules.tpl): {vain}"
                );
            }
        }
        self.chart(&mut counts, &mut troubles).await?;
        redis.stop().await?;
        postgres.stop().await?;

        if counts.ignored > 0 {
            troubles.push(format!("{} tests are ignored: a test runs or is removed", counts.ignored));
        }
        for trouble in &troubles {
            println!("could not run: {trouble}");
        }
        println!("{} passed, {} failed", counts.passed, counts.failed);
        if counts.failed > 0 || !troubles.is_empty() {
            bail!("not all is well");
        }
        if counts.passed == 0 {
            bail!("no test has one of the words {:?} in its name", self.words);
        }
        Ok(())
    }

    async fn chart(&self, counts: &mut Counts, troubles: &mut Vec<String>) -> Result<()> {
        let mut chart = run::program("tests/chart/run.sh");
        if !self.words.is_empty() {
            chart.args(["-k", &self.words.join(" or ")]);
        }
        let mut mine = Counts::default();
        let succeeded = run::watch(chart, |line| mine.add_pytest(line)).await?;
        // pytest ends with 5 where the words select nothing.
        let nothing_selected = !self.words.is_empty() && mine.passed + mine.failed == 0;
        if !succeeded && mine.failed == 0 && !nothing_selected {
            troubles.push("tests/chart/run.sh failed without a failed test: see above".into());
        }
        counts.passed += mine.passed;
        counts.failed += mine.failed;
        counts.ignored += mine.ignored;
        Ok(())
    }
}

impl Counts {
    /// `test result: ok. 5 passed; 0 failed; 0 ignored; …`
    fn add_cargo(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.add(result);
        }
    }

    /// `5 passed, 1 failed in 2.31s`; nothing but this line counts.
    fn add_pytest(&mut self, line: &str) {
        let summary = line.trim_matches(['=', ' ']);
        if summary.contains(" passed") || summary.contains(" failed") || summary.contains(" error") {
            *self = Self::default();
            self.add(summary);
        }
    }

    fn add(&mut self, summary: &str) {
        let words: Vec<_> = summary.split([' ', ',', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<usize>() else { continue };
            match pair[1] {
                "passed" => self.passed += number,
                "failed" | "error" | "errors" => self.failed += number,
                "ignored" | "skipped" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_both_kinds_of_summary() {
        let mut counts = Counts::default();
        counts
            .add_cargo("test result: ok. 5 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.1s");
        counts.add_cargo("test result_is_not_a_summary ... ok");
        assert_eq!((counts.passed, counts.failed, counts.ignored), (5, 1, 2));
        let mut counts = Counts::default();
        counts.add_pytest("test_chart.py ..... 5 passed");
        counts.add_pytest("==== 7 passed, 1 failed, 1 error in 2.31s ====");
        assert_eq!((counts.passed, counts.failed), (7, 2));
    }
}
