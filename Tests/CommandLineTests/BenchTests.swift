import Foundation
import TestSupport
import Testing

/// `pdrop-bench` as a process, over the bundled model.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct BenchTests {
  private func rows(_ run: ProgramRun) throws -> [[String: Any]] {
    try run.outputLines.map { line in
      try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    }
  }

  @Test func `measures vision encoder, prefill and decode under each policy`() throws {
    let folder = try TemporaryFolder()
    let page = folder.path("page.html")
    let run = try ProgramRun(
      ["--policy", "none,pyramiddrop", "-p", "20", "-n", "2", "-r", "1", "-t", "2", "-o", "jsonl", "--html", page],
      program: "pdrop-bench")
    #expect(run.status == 0, "\(run.errors)")
    let html = try String(contentsOfFile: page, encoding: .utf8)
    // Comparison with the baseline; time to first token, prefill, decode; FLOPs, KV cache.
    #expect(html.components(separatedBy: "<svg class=\"plot\"").count == 1 + 6)
    #expect(html.contains("Dropping can only reduce prefill") && html.contains("<dt>commit</dt>"))
    // One line for the model, and one per policy in the warm-up turn and in the measured turn.
    #expect(run.errorLines.count == 1 + 2 * 2)
    let rows = try rows(run)
    let policies = rows.map { $0["policy"] as? String }
    let tests = rows.map { $0["test"] as? String }
    #expect(policies == ["any", "none", "none", "pyramiddrop", "pyramiddrop"])
    #expect(tests == ["enc1", "pp596", "tg2", "pp596", "tg2"])
    for row in rows {
      for key in ["milliseconds", "gflop", "gflop_per_second", "share_of_peak", "load_ms"] {
        #expect(try #require(row[key] as? Double) > 0, "\(key)")
      }
      #expect(row["precision"] as? String == "f32" && row["threads"] as? Int == 2)
      #expect((row["samples_ms"] as? [Double])?.count == 1)
      for key in ["reason", "peaks", "build_commit", "cpu_info", "libraries"] {
        #expect((row[key] as? String)?.isEmpty == false, "\(key)")
      }
    }
    #expect(rows[1]["visual_tokens"] as? [Int] == [576] && rows[3]["visual_tokens"] as? [Int] == [576, 288, 144, 72])
    // The paper's formula depends only on shapes: 576 visual tokens and 32 layers.
    let (full, dropped) = (
      try #require(rows[1]["gflop_paper"] as? Double), try #require(rows[3]["gflop_paper"] as? Double)
    )
    #expect(dropped < 0.47 * full && dropped > 0.4 * full)
    #expect(rows[0]["tokens_per_second"] is NSNull && rows[0]["first_token_ms"] is NSNull)
  }

  @Test func `fits the cost of a layer`() throws {
    let run = try ProgramRun(
      ["layer-cost", "--rows", "64,8,256,32", "-r", "1", "-o", "jsonl"], program: "pdrop-bench")
    #expect(run.status == 0, "\(run.errors)")
    let rows = try rows(run)
    #expect(rows.map { $0["rows"] as? Int } == [8, 32, 64, 256])
    for row in rows {
      let shares = ["constant_share", "linear_share", "quadratic_share"].compactMap { row[$0] as? Double }
      #expect(abs(shares.reduce(0, +) - 1) < 1e-9)
      #expect(row["ratio_paper"] as? Double == 0.46875)
      // 49 text tokens remain in all layers: (49 · 4 + 576 + 288 + 144 + 72) / 4 of 625 rows.
      #expect(row["ratio_linear_in_rows"] as? Double == 319.0 / 625)
    }
  }

  @Test func `plans schedules for a published model without running it`() throws {
    let run = try ProgramRun(
      [
        "plan", "--synthetic", "llava-1.5-7b,llava-next-7b", "--policy", "none,pyramiddrop,fastv", "--target-flops",
        "45%",
        "-o", "jsonl",
      ], program: "pdrop-bench")
    #expect(run.status == 0, "\(run.errors)")
    let rows = try rows(run)
    let shares = rows.compactMap { $0["flops_share"] as? Double }
    #expect(shares.count == 6 && shares[0] == 1 && shares[3] == 1)
    for share in [shares[1], shares[2], shares[4], shares[5]] { #expect(share <= 0.45 && share > 0.448) }
    let stages = rows.map { $0["visual_tokens"] as? [Int] ?? [] }
    #expect(stages.map(\.count) == [1, 4, 2, 1, 4, 2] && stages[0] == [576] && stages[3] == [2340])
    #expect(rows[1]["layers"] as? [Int] == [8, 16, 24] && rows[2]["layers"] as? [Int] == [2])
  }

  @Test func `plans recipes in our packing or that of their papers`() throws {
    let plan = ["plan", "--synthetic", "llava-next-7b", "-o", "jsonl", "--recipe"]
    func packings(_ recipe: String, _ more: [String] = []) throws -> [String: [Any]] {
      let run = try ProgramRun(plan + [recipe] + more, program: "pdrop-bench")
      #expect(run.status == 0, "\(run.errors)")
      return Dictionary(
        uniqueKeysWithValues: try rows(run).map {
          ($0["recipe"] as? String ?? "", [$0["packing"] as? String ?? "", $0["visual_tokens"] as? [Int] ?? []])
        })
    }
    let ours = try packings("all")
    #expect(ours["scope-64"]?[0] as? String == "unpadded" && ours["pdrop"]?[0] as? String == "")
    #expect(ours["pdrop"]?[1] as? [Int] == [2340, 1170, 585, 292])
    let papers = try packings("all", ["--preselect-packing", "paper"])
    #expect(papers["scope-64"]?[0] as? String == "patches" && papers["divprune-64"]?[0] as? String == "sequence")
    #expect(papers["vscan-64"]?[0] as? String == "unpadded" && papers["tops-64"]?[0] as? String == "unpadded")
    let one = try packings("cdpruner-64", ["--preselect-packing", "paper"])
    #expect(one["cdpruner-64"]?[0] as? String == "patches" && one["cdpruner-64"]?[1] as? [Int] == [64])
  }

  @Test func `a recipe takes the place of all policies but none`() throws {
    let run = try ProgramRun(
      ["--recipe", "divprune-64", "-p", "20", "-n", "0", "-r", "1", "-t", "2", "-o", "jsonl"], program: "pdrop-bench")
    #expect(run.status == 0, "\(run.errors)")
    let tokens = try rows(run).filter { $0["tokens"] is Int }.map { $0["visual_tokens"] as? [Int] }
    #expect(tokens == [[576], [64]])
  }

  @Test(arguments: [
    (["plan", "--synthetic", "llava-1.5-7b", "--policy", "pyramiddrop", "--target-tokens", "128"], "--layer-list"),
    (["plan", "--kv", "int4"], "--kv"), (["--attention-scores", "bf16"], "--attention-scores"),
    (["--target-tokens", "128", "--target-kv", "1MiB"], "give one"),
    (["--nonsense"], "nonsense"), (["-r", "0"], "--repetitions"), (["-n", "-1"], "-n"), (["-n=-1"], "-n"),
    (["-p", "1"], "--n-prompt"), (["-t", "0"], "--threads"), (["-o", "xml"], "jsonl"),
    (["--policy", "none,best"], "pyramiddrop"), (["--policy", "none,"], "pyramiddrop"),
    (["--precision", "f8"], "bf16"), (["--synthetic", "llava-2"], "llava-1.5-7b"),
    (["--layers", "4"], "--synthetic"), (["--distinct-layers"], "--synthetic"),
    (["--synthetic", "llava-1.5-7b", "--layers", "0"], "--layers"), (["--layer-list", "8"], "belong together"),
    (["--stages", "99"], "99 stages"), (["--fastv-k", "32"], "layer 32"),
    (["kernels", "--rows", "0"], "--rows"), (["kernels", "--positions", "x"], "--positions"),
    (["layer-cost", "--rows", "1,1,2"], "--rows"), (["layer-cost", "-p", "0"], "--n-prompt"),
    (["fidelity"], "no questions"), (["fidelity", "--input", "a", "-p", "b"], "--input contains"),
    (["fidelity", "-p", "a"], "--image-folder"), (["fidelity", "-p", "a", "--tolerance", "95"], "--tolerance"),
    (["fidelity", "-p", "a", "--policy", "none", "--schedule", "fastv"], "replaces"),
    (["fidelity", "-p", "a", "--schedule", "best"], "begins with one of none, pyramiddrop"),
    (["fidelity", "-p", "a", "--schedule", "none --lambda 0.5"], "no stages"),
    (["fidelity", "-p", "a", "--schedule", "fastv --fastv-r"], "the schedule 'fastv --fastv-r'"),
  ])
  func `refuses a wrong command line`(arguments: [String], words: String) throws {
    let run = try ProgramRun(arguments, program: "pdrop-bench")
    #expect(run.status == 2 && run.output.isEmpty, "\(run.errors)")
    let errors = run.errorLines.filter { $0.hasPrefix("error: ") }
    #expect(errors.count == 1 && errors.first?.contains(words) == true, "\(run.errors)")
  }

  @Test func `a batch measures the questions of a file, and names those that fail once`() throws {
    let folder = try TemporaryFolder()
    let input = try folder.write(
      "questions.jsonl", #"{"question_id": 1, "text": "What is this?"}"# + "\n" + #"{"id": 2, "prompt": "a"}"# + "\n")
    let run = try ProgramRun(
      ["batch", "--input", input, "--policy", "none", "-b", "1,2", "-n", "2", "-o", "jsonl"], program: "pdrop-bench")
    #expect(run.status == 1)
    #expect(run.errorLines == ["error: line 2: the record has no question_id"])
    let rows = try rows(run)
    #expect(rows.map { $0["batch_size"] as? Int } == [1, 2])
    #expect(rows.map { $0["records"] as? Int } == [1, 1])
    for row in rows { #expect(try #require(row["tokens_per_second"] as? Double) > 0) }
  }

  @Test func `refuses a directory without a model`() throws {
    try ProgramRun(["-m", "/nowhere"], program: "pdrop-bench").expectFailure(3, "/nowhere")
  }
}

/// `pdrop-bench fidelity` as a process, with the bundled model.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct FidelityTests {
  @Test func `compares with the first compute type and policy`() throws {
    let folder = try TemporaryFolder()
    let samples = Goldens.path("../../Models/samples")
    let question =
      #"{"question_id": 1, "image": "bike.png", "text": "What number is at the top right?", "answer": "635.99"}"#
    let input = try folder.write("questions.jsonl", question + "\n")
    let run = try ProgramRun(
      [
        "fidelity", "--input", input, "--image-folder", samples, "--precision", "f32,int8", "--policy",
        "none,pyramiddrop", "-n", "8", "-o", "jsonl",
      ], program: "pdrop-bench")
    #expect(run.status == 0, "\(run.errors)")
    struct Row: Decodable {
      var precision: String
      var policy: String
      var firstTokenAgreement: Double
      var meanKL: Double
      var accuracy: Double

      enum CodingKeys: String, CodingKey {
        case precision, policy, accuracy
        case firstTokenAgreement = "first_token_agreement"
        case meanKL = "mean_kl"
      }
    }
    let rows = try run.outputLines.map { try JSONDecoder().decode(Row.self, from: Data($0.utf8)) }
    #expect(rows.map(\.precision) == ["f32", "f32", "int8", "int8"])
    #expect(rows.map(\.policy) == ["none", "pyramiddrop", "none", "pyramiddrop"])
    #expect(rows.allSatisfy { $0.firstTokenAgreement == 1 && $0.accuracy == 1 })
    #expect(rows[0].meanKL == 0 && rows.dropFirst().allSatisfy { $0.meanKL > 0 })
  }

  @Test func `compares schedules on images without answers`() throws {
    let folder = try TemporaryFolder()
    let samples = Goldens.path("../../Models/samples")
    let page = folder.path("page.html")
    let run = try ProgramRun(
      [
        "fidelity", "--image-folder", samples, "-p", "What is in the image?", "-n", "3", "-o", "jsonl", "--tolerance",
        "0", "--html", page, "--schedule", "pyramiddrop --lambda 0.4", "--schedule", "pyramiddrop  --lambda 0.6",
        "--schedule", "fastv --fastv-r 0.75",
      ], program: "pdrop-bench")
    #expect(run.status == 0, "\(run.errors)")
    struct Row: Decodable {
      var schedule: String
      var questions: Int
      var firstTokenAgreement: Double
      var firstDifferingTokens: [Int]
      var promptShare: Double
      var cheapest: String

      enum CodingKeys: String, CodingKey {
        case schedule, questions, cheapest
        case firstTokenAgreement = "first_token_agreement"
        case firstDifferingTokens = "first_differing_tokens"
        case promptShare = "prompt_share"
      }
    }
    let rows = try run.outputLines.map { try JSONDecoder().decode(Row.self, from: Data($0.utf8)) }
    #expect(
      rows.map(\.schedule) == ["none", "pyramiddrop --lambda 0.4", "pyramiddrop --lambda 0.6", "fastv --fastv-r 0.75"])
    #expect(rows.allSatisfy { $0.questions == 3 })
    #expect(rows[0].firstTokenAgreement == 1 && rows[0].firstDifferingTokens.isEmpty && rows[0].promptShare == 1)
    // All tokens in 2 layers, then 25%, cost less than all tokens in 8 layers, then 40%, 16% and 6%.
    #expect(rows[3].promptShare < rows[1].promptShare && rows[1].promptShare < rows[2].promptShare)
    #expect(rows[2].promptShare < 1 && rows.allSatisfy { $0.cheapest.hasPrefix("fastv --fastv-r 0.75, ") })
    let html = try String(contentsOfFile: page, encoding: .utf8)
    #expect(html.contains("λ=0.6") && html.contains("First-token agreement"))
  }

  @Test func `refuses a folder without images and a report without a folder`() throws {
    let folder = try TemporaryFolder()
    func fidelity(_ arguments: [String]) throws -> ProgramRun {
      try ProgramRun(["fidelity", "-p", "a"] + arguments, program: "pdrop-bench")
    }
    try fidelity(["--image-folder", folder.path]).expectFailure(3, "contains no images")
    let page = folder.path("none/page.html")
    try fidelity(["--image-folder", folder.path, "--html", page]).expectFailure(3, "page.html: cannot be written")
  }

  @Test func `reports the line that is not a question`() throws {
    let folder = try TemporaryFolder()
    let input = try folder.write("questions.jsonl", "{\"image\": 1}\n")
    let run = try ProgramRun(["fidelity", "--input", input], program: "pdrop-bench")
    #expect(run.status == 3 && run.errorLines.count == 1)
    #expect(run.errors.contains("line 1: expected an object with image and text"))
  }
}
