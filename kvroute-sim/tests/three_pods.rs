//! Three pods under load, measured on H200s and simulated (see `kvroute_sim::fleet::ThreePods`).

use kvroute_sim::fleet::{Row, ThreePods};

/// Prints one figure: measured, simulated, their ratio.
fn cell(measured: f64, simulated: f64) -> String {
    format!("{:7.1} {:7.1} {:5.2} |", measured * 1e3, simulated * 1e3, simulated / measured)
}

fn print(row: &Row) {
    let (measured, simulated) = (row.measured.summary, row.simulated);
    println!(
        "{:2} {:13} {}{}{}{}{} {:.2} {:.3}",
        row.measured.rate,
        format!("{:?}", row.measured.strategy),
        cell(measured.ttft_p50, simulated.ttft_p50),
        cell(measured.ttft_p90, simulated.ttft_p90),
        cell(measured.ttft_p99, simulated.ttft_p99),
        cell(measured.inter_token_p50, simulated.inter_token_p50),
        cell(measured.end_to_end_p50, simulated.end_to_end_p50),
        measured.cached_share,
        simulated.cached_share,
    );
}

#[test]
fn the_measured_table_comes_out() {
    let rows = ThreePods::default().rows().expect("options are right");
    println!("ms, measured, simulated, ratio: TTFT p50, p90, p99, between tokens, end to end; cached share");
    rows.iter().for_each(print);
    for row in &rows {
        let name = format!("{:?} at {}", row.measured.strategy, row.measured.rate);
        assert_eq!(row.simulated.failed, 0);
        for (figure, measured, simulated) in row.compared() {
            let ratio = simulated / measured;
            let holds = (0.75..=1.25).contains(&ratio)
                && (figure != "cached share" || (simulated - measured).abs() < 0.05);
            assert!(holds, "{name}: {figure} is {ratio:.2} of the measured");
        }
    }
    for one in &rows {
        for other in &rows {
            let (worse, better) = (one.measured.summary.ttft_p50, other.measured.summary.ttft_p50);
            if one.measured.rate == other.measured.rate && worse > 1.2 * better {
                assert!(one.simulated.ttft_p50 > other.simulated.ttft_p50, "{one:?} {other:?}");
            }
        }
    }
}
