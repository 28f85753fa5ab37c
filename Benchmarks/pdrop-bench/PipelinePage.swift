import BenchSupport
import PDrop
import Pages

/// What tower, prompt and decoding cost, as a page.
struct PipelinePage {
  let records: [Record]

  /// The rows of one model in one arithmetic.
  private struct Group {
    var name: String
    var records: [Record]

    func row(_ policy: String, _ test: String) -> Record? {
      records.first { $0.text("policy") == policy && $0.text("test").hasPrefix(test) }
    }

    /// Policies in the order of the table.
    var policies: [String] {
      var names: [String] = []
      for record in records where record.text("test").hasPrefix("pp") { names.append(record.text("policy")) }
      return names
    }

    /// The tower's milliseconds for the picture.
    var towerMilliseconds: Double? { records.last { $0.text("test").hasPrefix("enc") }?.number("milliseconds") }
  }

  private var groups: [Group] {
    var groups: [Group] = []
    for record in records {
      let name = "\(record.text("model")), \(record.text("precision"))"
      if let index = groups.firstIndex(where: { $0.name == name }) {
        groups[index].records.append(record)
      } else {
        groups.append(Group(name: name, records: [record]))
      }
    }
    return groups
  }

  var page: Page {
    let groups = groups
    return Page(
      "What an answer costs", lead: groups.compactMap(Self.amdahl).joined(separator: " "),
      sections: [
        Page.Section(
          "Time",
          [
            bars("Time to the first token", groups, "pp", "first_token_ms", "ms, from the picture"),
            bars("Prompt", groups, "pp", "milliseconds", "ms", deviation: "milliseconds_deviation"),
            bars("Decoding", groups, "tg", "tokens_per_second", "tokens/s", deviation: "tokens_per_second_deviation"),
          ].compactMap(\.self)),
        Page.Section(
          "Work and memory",
          [
            bars("Operations of the prompt", groups, "pp", "gflop", "GFLOP, counted"),
            bars("Keys and values", groups, "pp", "kv_bytes", "MiB", factor: 1 / 1_048_576),
          ].compactMap(\.self)),
        Page.Section("All numbers", [.table(Table(records))]),
      ],
      facts: Page.Fact.made()
        + ["limits", "libraries"].map { name in Page.Fact(name, records.first?.text(name) ?? "") })
  }

  /// Which part of the way to the first token dropping can touch, and what could be won at best.
  private static func amdahl(_ group: Group) -> String? {
    guard let policy = group.policies.first, let tower = group.towerMilliseconds,
      let prompt = group.row(policy, "pp")?.number("milliseconds"), prompt > 0
    else { return nil }
    let share = prompt / (tower + prompt)
    return "\(group.name): with policy \(policy), the tower takes \(tower.significant(3)) ms and the prompt "
      + "\(prompt.significant(3)) ms; dropping can touch the prompt alone, \(percent(share)) of them, and so make the first token at "
      + "most \((1 / (1 - share)).formatted(1)) times as fast."
  }

  /// A bar for each policy in each group; `nil` where nothing was measured.
  private func bars(
    _ title: String, _ groups: [Group], _ test: String, _ field: String, _ label: String, deviation: String? = nil,
    factor: Double = 1
  ) -> Page.Block? {
    var policies: [String] = []
    for policy in groups.flatMap(\.policies) where !policies.contains(policy) { policies.append(policy) }
    let series = policies.map { policy in
      BarPlot.Series(
        policy,
        groups.map { group -> BarPlot.Bar? in
          guard let record = group.row(policy, test), let value = record.number(field) else { return nil }
          let spread = deviation.flatMap(record.number).map { $0 * factor }
          return BarPlot.Bar(
            value * factor, low: spread.map { value * factor - $0 }, high: spread.map { value * factor + $0 })
        })
    }
    guard series.contains(where: { $0.bars.contains { $0 != nil } }) else { return nil }
    let caption = deviation == nil ? nil : "Medians; the thin lines are one standard deviation to each side."
    return .bars(BarPlot(title, caption: caption, axis: Axis(label), groups: groups.map(\.name), series: series))
  }
}

extension Record {
  fileprivate func text(_ name: String) -> String {
    if case .text(let text) = self[name] { text } else { "" }
  }

  fileprivate func number(_ name: String) -> Double? {
    switch self[name] {
    case .number(let number): number.isFinite ? number : nil
    case .integer(let integer): Double(integer)
    default: nil
    }
  }
}
