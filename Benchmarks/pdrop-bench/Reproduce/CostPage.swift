import BenchSupport
import Pages

/// What the paper's schedules cost, as sections of a page.
struct CostPage {
  let comparisons: [CostComparison]

  var sections: [Page.Section] {
    [methods, reach, lambdas, operatingPoints].compactMap(\.self)
  }

  /// Table 5.
  private var methods: Page.Section? {
    let tables = tables(PaperSchedule.methods)
    guard !tables.isEmpty else { return nil }
    return Page.Section(
      "The methods' cost (the paper's table 5)",
      [
        .text(
          "The paper's TFLOPs count the visual tokens alone and a multiply-add as one; its formula is taken at the tokens that "
            + "it reckons with, then at those of the picture that was measured. Counted are all rows of the prompt, text and ranking "
            + "included, at the kernels, a multiply-add as two. The first token is timed from the decoded picture."),
        bars(PaperSchedule.methods, "Time to the first token", axis: Axis("of none", unit: .percent)) { row, none in
          row.firstToken.median / none.firstToken.median
        },
      ] + tables)
  }

  /// What dropping can touch at all.
  private var reach: Page.Section? {
    let texts = comparisons.map(\.reach).filter { !$0.isEmpty }
    return texts.isEmpty ? nil : Page.Section("What dropping can touch", texts.map(Page.Block.text))
  }

  /// Table 4.
  private var lambdas: Page.Section? {
    let schedules = [PaperSchedule.none, .lambda(0.4), .pyramidDrop, .lambda(0.6)]
    guard comparisons.contains(where: { $0[.lambda(0.4)] != nil }) else { return nil }
    return Page.Section("Stronger and weaker dropping (the paper's table 4)", tables(schedules))
  }

  /// Figure 4.
  private var operatingPoints: Page.Section? {
    let measured = comparisons.filter { comparison in
      PaperSchedule.operatingPoints(["pyramiddrop"]).contains { comparison[$0] != nil }
    }
    guard !measured.isEmpty else { return nil }
    let schedules = PaperSchedule.operatingPoints(["pyramiddrop", "fastv"])
    return Page.Section(
      "Two methods at equal operations (the paper's figure 4)",
      [
        .text(
          "Schedules that cost the same by counting: 38.4, 48.0, 57.6 and 67.2% of no dropping, which are the 8, 10, 12 and 14 of "
            + "20.8 TFLOPs at which the paper compares scores.")
      ] + CostPage(comparisons: measured).tables(schedules))
  }

  private func tables(_ schedules: [PaperSchedule]) -> [Page.Block] {
    comparisons.compactMap { comparison in
      let records = comparison.records(schedules)
      return records.isEmpty ? nil : .table(Table(records, title: comparison.name))
    }
  }

  /// A bar for each schedule of each model.
  private func bars(
    _ schedules: [PaperSchedule], _ title: String, axis: Axis, _ value: (CostRow, CostRow) -> Double
  ) -> Page.Block {
    let series = schedules.map { schedule in
      BarPlot.Series(
        schedule.words,
        comparisons.map { comparison in
          guard let row = comparison[schedule], let none = comparison[.none] else { return nil }
          return BarPlot.Bar(value(row, none))
        })
    }
    return .bars(BarPlot(title, axis: axis, groups: comparisons.map(\.name), series: series))
  }
}
