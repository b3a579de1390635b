use super::*;

fn report(process: &str, figure: &str, value: f64) -> Value {
    json!({"processes": [process], "figures": {figure: {"value": value, "unit": ""}}})
}

fn values() -> Values {
    let mut values = Values::new(&["limit-coalesce".to_owned(), "cluster".to_owned()]);
    for (limit, own) in [(1000.0, 600.0), (3000.0, 900.0), (2000.0, 1200.0), (2000.0, 1000.0)] {
        values.take(0, "rooms", &report("limit", "deliveries per CPU-second", limit));
        values.take(1, "rooms", &report("gateway", "deliveries per CPU-second", own));
    }
    values.take(1, "idle", &report("gateway", "gateway memory per connection", 4.25));
    values
}

#[test]
fn the_median_is_the_middle_and_the_spread_is_the_rest() {
    let values = values();
    assert_eq!(values.spread(0, 1), Some((2000.0, 1000.0, 3000.0)));
    assert_eq!(values.spread(1, 1), Some((950.0, 600.0, 1200.0)));
    assert_eq!(values.spread(1, 4), Some((4.25, 4.25, 4.25)));
    assert_eq!(values.spread(0, 0), None);
}

#[test]
fn the_table_has_a_row_for_each_server_and_ratios_to_the_limit() {
    let plan = Plan {
        rounds: 4,
        seconds: 1,
        servers: Vec::new(),
        scenarios: Vec::new(),
        arguments: Vec::new(),
        out: PathBuf::new(),
    };
    let machine = Machine { lines: vec![("CPU", "2 × a CPU".to_owned())] };
    let text = table::markdown(&values(), &machine, &plan);
    assert!(text.contains("- CPU: 2 × a CPU\n"), "{text}");
    assert!(text.contains("| cluster | 950 (600–1.2k) | 4.25 (4.25–4.25) |"));
    assert!(text.contains("| cluster | 48 | – |"), "{text}");
    assert!(text.contains("| server | rooms, deliveries per CPU-second | idle, KiB"), "{text}");
    let picture = chart::svg(&values());
    assert!(picture.contains(r#"class="roomcast""#) && picture.ends_with("</svg>\n"));
}
