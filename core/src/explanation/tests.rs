//! Planted games: effects that are known, explained by the real solver in every format.

use super::*;
use crate::convergence::Agreement;
use crate::evaluation::{Assignment, ProbeValues, Variables};
use crate::extractor::CpuExtractor;
use crate::interaction::{Interactions, Kind};
use crate::sparsify;

/// Kind, bitmask and effect.
type Planted = (Kind, usize, f64);

/// Values of 4 variables with these effects and v(∅) = −1.
fn table(planted: &[Planted]) -> Vec<f64> {
    let mut effects = Interactions { and: vec![0.0; 16], or: vec![0.0; 16] };
    for &(kind, subset, effect) in planted {
        match kind {
            Kind::And => effects.and[subset] = effect,
            Kind::Or => effects.or[subset] = effect,
        }
    }
    effects.predict().into_iter().map(|value| value - 1.0).collect()
}

fn probe(samples: &[&[Planted]]) -> ProbeValues {
    let values = samples.iter().map(|planted| table(planted)).collect();
    ProbeValues { values, ..ProbeValues::default() }
}

fn settings(noise: f64) -> Settings {
    Settings { noise, salience: 0.02, solver: sparsify::Settings::default() }
}

fn model(target: &ProbeValues, baseline: &ProbeValues, noise: f64) -> Result<Model, ExplainError> {
    let settings = settings(noise);
    let extractor = CpuExtractor::new(4, settings.solver, 1).unwrap();
    Model::of([target, baseline], &[0], &settings, &extractor).map(|mut models| models.remove(0))
}

use Kind::{And, Or};

/// v(N) − v(∅) = 3.0; the other sample's is 5.0, so τ = 0.02 · 4 = 0.08.
const TARGET: &[Planted] =
    &[(And, 0b0011, 2.5), (Or, 0b1100, -1.0), (And, 0b0001, 1.45), (And, 0b1110, 0.05)];
/// v(N) − v(∅) = 4.0, so τ = 0.02 · 4.5 = 0.09.
const BASELINE: &[Planted] = &[(And, 0b0011, 1.5), (Or, 0b1100, 1.25), (Or, 0b0110, 1.25)];
const OTHER: &[Planted] = &[(And, 0b0001, -5.0)];

fn planted() -> Model {
    model(&probe(&[TARGET, OTHER]), &probe(&[BASELINE, OTHER]), 0.0).unwrap()
}

fn explanation(model: Model, input: Input) -> Explanation {
    let chosen = vec![vec![0, 2, 5, 8], vec![0, 1, 2, 3]];
    let variables = Variables {
        count: 4,
        classes: vec![7, 0],
        assignment: Assignment::Patches { grid: 3, chosen },
    };
    Explanation {
        run: "planted".to_owned(),
        step: 8,
        sample: 0,
        samples: 2,
        class: 7,
        checkpoints: ["run/target/8".to_owned(), "run/baseline/8".to_owned()],
        settings: settings(0.0),
        variables: Variable::all(&variables, 0, None),
        input,
        model,
        notes: vec!["the YAML file says `noise` 1, but the run was begun with 0".to_owned()],
    }
}

fn image() -> Input {
    let pixels = (0..36).map(|i| i * 7).collect();
    Input::Image(Image { size: [6, 6], channels: 1, pixels, grid: Some(3) })
}

fn round(effects: [f64; 2]) -> [f64; 2] {
    effects.map(|effect| (effect * 1e4).round() / 1e4)
}

#[test]
fn exactly_the_planted_effects_that_are_salient_are_listed() {
    let model = planted();
    let thresholds = model.networks.each_ref().map(|network| network.threshold);
    assert_eq!(round(thresholds), [0.08, 0.09]);
    let found: Vec<_> = model
        .interactions
        .iter()
        .map(|one| (one.kind, one.subset, round(one.effects), one.verdict()))
        .collect();
    let wanted = [
        (And, 0b0011, [2.5, 1.5], "convergent"),
        (And, 0b0001, [1.45, 0.0], "target only"),
        (Or, 0b0110, [0.0, 1.25], "baseline only"),
        (Or, 0b1100, [-1.0, 1.25], "opposite signs"),
    ];
    assert_eq!(found, wanted);
    assert_eq!(
        model.interactions[3].agreement,
        Agreement { salient: [true; 2], convergent: false }
    );
    assert_eq!(model.interactions[0].variables, [0, 1]);
    assert_eq!((model.networks[0].count, model.networks[0].salient), (4, 3));
    assert_eq!((model.networks[1].count, model.convergent()), (3, 1));
}

#[test]
fn the_sums_are_the_outputs_and_without_noise_nothing_is_missing_in_the_end() {
    let model = planted();
    for (network, output) in model.networks.iter().zip([3.0, 4.0]) {
        assert!((network.output() - output).abs() < 1e-9 && (network.sum - output).abs() < 1e-6);
        assert_eq!((network.values[0], network.noise), (-1.0, 0.0));
        assert!(network.largest_error() < 1e-8 && network.is_faithful(), "{network:?}");
        assert_eq!(network.fidelity.last().map(|all| all.kept), Some(network.count));
        assert!(network.status.is_certified() && network.certificate.feasible);
    }
    let kept: Vec<usize> = model.networks[0].fidelity.iter().map(|entry| entry.kept).collect();
    assert_eq!(kept, [0, 1, 2, 4]);
    // Without any effect the prediction is v(∅), so the largest error is the largest |v(S) − v(∅)|.
    assert!((model.networks[0].fidelity[0].largest - 3.95).abs() < 1e-9);
}

#[test]
fn with_noise_the_largest_error_is_at_most_the_noise() {
    let model = model(&probe(&[TARGET, OTHER]), &probe(&[BASELINE, OTHER]), 0.1).unwrap();
    for (network, noise) in model.networks.iter().zip([0.3, 0.4]) {
        assert!((network.noise - noise).abs() < 1e-9 && network.is_faithful());
        assert!(network.largest_error() > 1e-3, "there is room for noise, and it is used");
        assert!(!NetworkModel { noise: 1e-4, ..network.clone() }.is_faithful());
    }
}

#[test]
fn tables_that_are_not_finite_or_not_alike_are_errors() {
    let good = probe(&[TARGET, OTHER]);
    let mut bad = good.clone();
    bad.values[0][5] = f64::NAN;
    let error = model(&good, &bad, 0.0).unwrap_err().to_string();
    assert!(error.contains("baseline network's values of sample 0: v(S) is NaN"), "{error}");
    let fewer = probe(&[TARGET]);
    assert!(matches!(model(&good, &fewer, 0.0), Err(ExplainError::Mismatch)));
    assert!(matches!(model(&probe(&[]), &fewer, 0.0), Err(ExplainError::Mismatch)));
}

#[test]
fn a_network_without_any_effect_is_explained_by_nothing() {
    let flat = probe(&[&[]]);
    let explanation = explanation(model(&flat, &flat, 0.01).unwrap(), image());
    assert!(explanation.model.interactions.is_empty());
    assert!(explanation.text(20).contains("salient interactions: none; 0 convergent"));
    assert_sound(&explanation.picture(20));
}

#[test]
fn the_text_is_for_a_terminal() {
    let text = explanation(planted(), image()).text(3);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    // Errors of nothing and gaps are rounding, which depends on the machine.
    let rounding = ["relative gap", "largest error,", "       3 ", "       4 "];
    let is_stable = |line: &&str| !rounding.iter().any(|begin| line.starts_with(begin));
    let lines: Vec<&str> = text.lines().filter(is_stable).collect();
    assert_eq!(lines.join("\n"), TEXT, "{text}");
}

const TEXT: &str = "\
planted: step 8, sample 0 (of 0 to 1), class 7
v is the log-odds of the class; ∅ masks all variables, N none
note: the YAML file says `noise` 1, but the run was begun with 0

                                  target      baseline
v(∅)                              −1.000        −1.000
v(N)                               2.000         3.000
v(N) − v(∅)                        3.000         4.000
sum of all effects                 3.000         4.000
salient above (τ)                 0.0800        0.0900
interactions                           4             3
salient ones                           3             3
allowed error (ζ)                      0             0
certificate                    certified     certified
cost Σc·|effect|                   4.996         4.031
proven lower bound                 4.996         4.031

variables
   1  row 1, column 1
   2  row 1, column 3
   3  row 2, column 3
   4  row 3, column 3

salient interactions: the 3 strongest of 4; 1 convergent
  kind      target     baseline    which           variables
  AND      +2.500*      +1.500*   convergent      1, 2
  AND      +1.450*           0    target only     1
  OR            0       +1.250*   baseline only   2, 3
  * salient; convergent: salient in both networks with the same sign

error over all 16 masked states, with only the strongest interactions kept
                    root mean square                     largest
    kept        target      baseline        target      baseline
       0         1.779         2.550         3.950         4.000
       1        0.8430         2.073         1.450         2.500
       2        0.8590         1.083         1.000         1.250";

#[test]
fn json_has_every_interaction_under_stable_names() {
    let value = explanation(planted(), image()).json();
    let first = &value["interactions"][0];
    assert_eq!((&first["kind"], &first["subset"]), (&"and".into(), &3.into()));
    assert_eq!(first["variables"], serde_json::json!([1, 2]));
    assert_eq!(first["salient"], serde_json::json!({"target": true, "baseline": true}));
    assert_eq!((&first["convergent"], &first["verdict"]), (&true.into(), &"convergent".into()));
    assert_eq!(value["interactions"].as_array().map(Vec::len), Some(4));
    let patch = serde_json::json!({"number": 3, "name": "row 2, column 3", "patch": {"row": 2, "column": 3}});
    assert_eq!(value["variables"][2], patch);
    let target = &value["networks"]["target"];
    assert_eq!((&target["empty"], &target["faithful"]), (&(-1.0).into(), &true.into()));
    assert_eq!(target["fidelity"][0]["kept"], 0);
    assert!(target["certificate"]["gap"].is_number() && value["notes"][0].is_string());
    assert_eq!((&value["class"], &value["samples"]), (&7.into(), &2.into()));
}

/// A light check that the text is well-formed XML without anything from elsewhere: tags are closed in order,
/// attributes are quoted, ids are unique and all that are referred to are there.
#[track_caller]
fn assert_sound(xml: &str) {
    let mut open = Vec::new();
    for part in xml.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert!(!text.contains('&') || text.split('&').skip(1).all(|rest| rest.contains(';')));
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in order");
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split_whitespace().next().expect("a name");
        if !tag.ends_with('/') && !["meta", "link", "!DOCTYPE"].contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new(), "all are closed");
    let values = |name: &str| {
        let begin = format!(" {name}=\"");
        let parts = xml.split(&begin).skip(1);
        parts.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect::<Vec<_>>()
    };
    let ids = values("id");
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), distinct.len(), "ids are unique");
    let referred = values("aria-labelledby").join(" ");
    assert!(referred.split(' ').all(|id| ids.iter().any(|there| there == id)), "{referred}");
    for own in xml.split("url(#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(ids.iter().any(|id| id == own), "{own}");
    }
    assert!(values("href").iter().all(|address| address.starts_with("data:")));
    let bad = ["<script", "https:", "src=", "@import", "NaN", "\"inf", "inf,"];
    assert!(bad.iter().all(|bad| !xml.contains(bad)));
    let elsewhere = xml.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    assert!(!elsewhere.contains("http:"));
}

#[test]
fn the_picture_shows_the_patches_and_how_bars_agree() {
    let svg = explanation(planted(), image()).picture(20);
    assert_sound(&svg);
    assert!(svg.starts_with("<svg") && svg.contains("href=\"data:image/png;base64,"));
    let count = |what: &str| svg.matches(what).count();
    assert_eq!(count("<rect class=\"patch\""), 4);
    // One of each is in the legend, and `filled` of both networks beside.
    assert_eq!((count("bar target filled"), count("bar baseline filled")), (1 + 2, 1 + 1));
    assert_eq!((count("bar target hatched"), count("bar baseline hatched")), (2 + 1, 2));
    assert!(svg.contains("AND of 1, 2: target +2.500, baseline +1.500, convergent."), "{svg}");
    assert_eq!(count("<polyline"), 4);
    let fewer = explanation(planted(), image()).picture(1);
    assert_eq!(fewer.matches("<rect class=\"bar baseline").count(), 1 + 1);
    assert!(fewer.contains("the 1 strongest of 4"));
}

#[test]
fn a_sentence_is_boxed_and_what_is_hostile_in_it_is_escaped() {
    let hostile = "<script>&\"";
    let token = |text: &str, variable| Token { text: text.to_owned(), variable };
    let tokens = vec![token("[CLS]", None), token(hostile, Some(0)), token("melted", Some(2))];
    let mut explanation = explanation(planted(), Input::Sentence(tokens));
    explanation.run = hostile.to_owned();
    explanation.variables[0].meaning = Meaning::Words(vec![hostile.to_owned()]);
    for xml in [explanation.picture(20), explanation.page(20)] {
        assert_sound(&xml);
        assert_eq!(xml.matches("<rect class=\"word\"").count(), 2);
        assert!(xml.contains("melted") && !xml.contains("<image"));
        assert!(xml.contains("1 &lt;script&gt;&amp;&quot;, 2"), "the label of variable 1");
    }
}

#[test]
fn the_page_has_the_picture_and_all_numbers() {
    let page = explanation(planted(), image()).page(1);
    assert_sound(&page);
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg class=\"explanation\""));
    assert!(page.contains("baseline only"), "the table has more than the picture");
    assert!(page.contains("proven lower bound") && page.contains("row 2, column 3"));
    assert!(page.contains("run/baseline/8") && page.contains("begun with 0"));
}

#[test]
fn colours_are_those_of_the_report() {
    let report = include_str!("../telemetry/report/report.css");
    let picture = include_str!("picture.css");
    let colours = picture.split('#').skip(1).filter(|rest| !rest.starts_with("explanation"));
    let colours: std::collections::BTreeSet<_> =
        colours.filter_map(|rest| rest.split([';', '}']).next()).collect();
    assert!(colours.len() > 10);
    for colour in colours {
        assert!(report.contains(&format!(":#{colour}")), "#{colour}");
    }
}
