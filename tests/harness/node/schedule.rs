//! When a CronJob is due: five fields, as cron(5) says, in a time zone.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use jiff::{Timestamp, ToSpan, tz::TimeZone};

/// Nothing is due less often than this, save for days that never come (30 February).
const FURTHEST_MINUTES: i64 = 60 * 24 * 366 * 5;

#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    minutes: BTreeSet<i8>,
    hours: BTreeSet<i8>,
    days: BTreeSet<i8>,
    months: BTreeSet<i8>,
    /// 0 is Sunday.
    weekdays: BTreeSet<i8>,
    /// Where both are restricted either day is enough; `*` restricts nothing.
    either_day: bool,
    zone: TimeZone,
}

impl Schedule {
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self> {
        let zone = TimeZone::get(zone.unwrap_or("UTC")).context("unknown time zone")?;
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<_> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            bail!("the schedule \"{text}\" has {} fields instead of 5", fields.len());
        };
        let weekdays = values(weekday, 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"])?;
        let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
        let months: Vec<_> = std::iter::once("").chain(months).collect();
        Ok(Self {
            minutes: values(minute, 0, 59, &[])?,
            hours: values(hour, 0, 23, &[])?,
            days: values(day, 1, 31, &[])?,
            months: values(month, 1, 12, &months)?,
            weekdays: weekdays.into_iter().map(|day| day % 7).collect(),
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            zone,
        })
    }

    /// The newest time after `last` and not after `now` that is on the schedule.
    pub fn due(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let minute = |at: Timestamp| Timestamp::from_second(at.as_second().div_euclid(60) * 60).ok();
        let mut candidate = minute(now)?;
        for _ in 0..FURTHEST_MINUTES {
            if candidate <= last {
                return None;
            }
            if self.has(candidate) {
                return Some(candidate);
            }
            candidate = candidate.checked_sub(1.minute()).ok()?;
        }
        None
    }

    fn has(&self, at: Timestamp) -> bool {
        let local = at.to_zoned(self.zone.clone());
        let day = self.days.contains(&local.day());
        let weekday = self.weekdays.contains(&local.weekday().to_sunday_zero_offset());
        self.minutes.contains(&local.minute())
            && self.hours.contains(&local.hour())
            && self.months.contains(&local.month())
            && if self.either_day { day || weekday } else { day && weekday }
    }
}

/// `*`, `5`, `1-5`, `*/15`, `8-18/2`, `mon`, and lists of them.
fn values(field: &str, least: i8, greatest: i8, names: &[&str]) -> Result<BTreeSet<i8>> {
    let number = |text: &str| -> Result<i8> {
        let position = names.iter().position(|name| !name.is_empty() && name.eq_ignore_ascii_case(text));
        match position {
            Some(position) => Ok(i8::try_from(position)?),
            None => text.parse().with_context(|| format!("\"{text}\" in the schedule is no number")),
        }
    };
    let mut all = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (least, greatest),
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(range)?, if step.is_some() { greatest } else { number(range)? }),
        };
        ensure!(least <= from && from <= to && to <= greatest, "\"{part}\" is not between {least} and {greatest}");
        let step = usize::try_from(step.unwrap_or(1)).ok().filter(|step| *step > 0).context("a step of nothing")?;
        all.extend((from..=to).step_by(step));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(schedule: &str, last: &str, now: &str) -> Option<String> {
        let schedule = Schedule::parse(schedule, None).unwrap();
        schedule.due(last.parse().unwrap(), now.parse().unwrap()).map(|due| due.to_string())
    }

    #[test]
    fn the_newest_missed_time_is_due() {
        let (last, now) = ("2026-01-30T02:00:00Z", "2026-02-02T01:30:30Z");
        assert_eq!(due("0 2 * * *", last, now).as_deref(), Some("2026-02-01T02:00:00Z"));
        assert_eq!(due("*/15 * * * *", last, now).as_deref(), Some("2026-02-02T01:30:00Z"));
        assert_eq!(due("0 2 * * mon", last, now), None);
        assert_eq!(due("0 0 1,15 * fri", last, now).as_deref(), Some("2026-02-01T00:00:00Z"));
        assert_eq!(due("@daily", "2026-02-02T00:00:00Z", now), None);
    }

    #[test]
    fn a_time_zone_moves_it() {
        let schedule = Schedule::parse("0 2 * * *", Some("Europe/Berlin")).unwrap();
        let due = schedule.due("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-02T12:00:00Z".parse().unwrap());
        assert_eq!(due.unwrap().to_string(), "2026-01-02T01:00:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for wrong in ["* * * *", "60 * * * *", "a * * * *", "5-1 * * * *", "*/0 * * * *"] {
            assert!(Schedule::parse(wrong, None).is_err(), "{wrong}");
        }
    }
}
