import Foundation
import TestSupport
import Testing

/// `pdrop-bench reproduce` as a process, with the bundled model and three questions.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct ReproduceTests {
  private struct Report: Decodable {
    struct Section: Decodable {
      var title: String
      var blocks: [Block]

      /// The rows of the first table by column, without columns that are the same in all rows.
      var rows: [[String: Cell]] {
        guard let table = blocks.lazy.compactMap(\.table).first else { return [] }
        return table.rows.map { Dictionary(uniqueKeysWithValues: zip(table.columns.map(\.name), $0)) }
      }
    }

    struct Block: Decodable { var table: Table? }

    struct Table: Decodable {
      var columns: [Column]
      var rows: [[Cell]]
    }

    struct Column: Decodable { var name: String }

    /// The text or the number of a cell.
    struct Cell: Decodable {
      var text: String?
      var number: Double?

      init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        number = try? container.decode(Double.self)
        text = number == nil ? try container.decode(String.self) : nil
      }
    }

    var sections: [Section]

    func section(_ words: String) throws -> Section { try #require(sections.first { $0.title.contains(words) }) }
  }

  @Test func `reports cost and accuracy of each schedule`() throws {
    let folder = try TemporaryFolder()
    let run = try ProgramRun(
      ["reproduce", "--quick", "--questions", "3", "-r", "1", "-n", "1", "--report-folder", folder.path("report")],
      program: "pdrop-bench")
    #expect(run.status == 0, "\(run.errors)")
    for name in ["reproduce.html", "reproduce.md", "reproduce.json"] {
      #expect(FileManager.default.fileExists(atPath: folder.path("report/" + name)), "\(name)")
    }
    let report = try JSONDecoder().decode(
      Report.self, from: Data(contentsOf: URL(filePath: folder.path("report/reproduce.json"))))

    let methods = try report.section("Cost of the methods (the paper's table 5)").rows
    #expect(
      methods.map { $0["schedule"]?.text } == ["no dropping", "FastV K=2 R=0.5", "PyramidDrop λ=0.5"])
    // FastV keeps half of 576 tokens in 30 of 32 layers; PyramidDrop's stages keep 1, 1/2, 1/4 and 1/8.
    #expect(methods.map { $0["mean_visual_tokens"]?.number } == [576, 306, 270])
    let cache = methods.compactMap { $0["kv_mib"]?.number }
    #expect(cache.count == 3 && cache[0] > cache[1] && cache[1] > cache[2])

    // The cost of both methods is at most that of the figure's points.
    let points = try report.section("Accuracy at equal FLOPs (the paper's figure 4)").rows
    let costs = try report.section("Cost of two methods at equal FLOPs").rows
    let targets = [8, 10, 12, 14].map { $0 / 20.8252 }
    #expect(costs.count == 8 && points.count == 1 + 4 * 4)
    for (row, target) in zip(costs, targets + targets) {
      let share = try #require(row["counted_share"]?.number)
      #expect(share <= target + 5e-4 && share > target - 5e-3, "\(row["schedule"]?.text ?? "")")
    }

    let accuracy = try report.section("Accuracy of tiny-textvqa").rows
    #expect(accuracy.count == 5 && accuracy[0]["schedule"]?.text == "no dropping")
    #expect(try report.section("figure 1").rows.count == 1 + 4 * 4)
    #expect(try !report.section("Accuracy by question family").rows.isEmpty)
  }

  @Test(arguments: [
    (["--quick", "--model-15", "a"], "leave out --model-15"),
    (["-r", "0"], "--repetitions must be at least 1, found 0"),
    (["--questions", "0"], "--questions must be at least 1, found 0"),
    (["--layers", "4"], "--layers must be at least 25"),
  ])
  func `refuses invalid options`(arguments: [String], words: String) throws {
    let run = try ProgramRun(["reproduce", "--report-folder", "unused"] + arguments, program: "pdrop-bench")
    #expect(run.status == 2 && run.errors.contains(words), "\(run.errors)")
  }
}
