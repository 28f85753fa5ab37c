import Evaluation
import Foundation
import Testing

/// The results of the published scorers on small inputs; `Tests/Fixtures/scoring/make_scores.py` ran them.
@Suite struct OfficialScorerTests {
  private static func rows(_ name: String) throws -> [[Any]] {
    try #require(object()[name] as? [[Any]])
  }

  private static func object() throws -> [String: Any] {
    let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures/scoring/scores.json")
    return try #require(JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
  }

  private static func isSame(_ a: String?, _ b: String?) -> Bool {
    a.map { Array($0.utf8) } == b.map { Array($0.utf8) }
  }

  /// VLMEvalKit leaves an answer without a match to a judge model. Ours has a rule more for those, and it matches two.
  @Test func `options match as in VLMEvalKit`() throws {
    var others: Set<String> = []
    for row in try Self.rows("options") {
      let (answer, texts) = (try #require(row[0] as? String), try #require(row[1] as? [String: String]))
      let options = texts.sorted { $0.key < $1.key }.map { ChoiceOption(Unicode.Scalar($0.key) ?? "?", $0.value) }
      let found = OptionMatching.option(namedBy: answer, among: options).map { String($0) }
      let expected = row[2] as? String
      if expected == nil, found != nil {
        others.insert(answer)
      } else {
        #expect(found == (expected == "Z" ? nil : expected), "\(answer) \(texts)")
      }
    }
    #expect(others == ["b", "option b"])
  }

  @Test func `numbers and texts match as in ChartQA and OCR-VQA`() throws {
    for (name, match) in [("relaxed", isRelaxedMatch), ("exact", isExactMatch)] as [(String, (String, String) -> Bool)]
    {
      for row in try Self.rows(name) {
        let (answer, reference) = (try #require(row[0] as? String), try #require(row[1] as? String))
        #expect(match(answer, reference) == row[2] as? Bool, "\(name): \(answer.debugDescription) \(reference)")
      }
    }
  }

  @Test(arguments: [true, false])
  func `ANLS is that of the published code, in both rules for one half`(countsHalf: Bool) throws {
    for row in try Self.rows(countsHalf ? "anls" : "strictANLS") {
      let (answer, references) = (try #require(row[0] as? String), try #require(row[1] as? [String]))
      // The package with the other rule divides by the length without white space.
      if !countsHalf, (references + [answer]).contains(where: { $0.contains(where: \.isWhitespace) }) { continue }
      let expected = try #require(row[2] as? Double)
      #expect(abs(anls(answer, references, countsHalf: countsHalf) - expected) < 1e-12, "\(answer) \(references)")
    }
  }

  @Test func `lists of references are read as by Python`() throws {
    for row in try Self.rows("lists") {
      let text = try #require(row[0] as? String)
      let (found, expected) = (PythonList.strings(text), row[1] as? [String])
      #expect(found?.map { Array($0.utf8) } == expected?.map { Array($0.utf8) }, "\(text)")
    }
  }

  @Test func `answers are normalized as in TextVQA and on the server of VQAv2`() throws {
    for row in try Self.rows("normalized") {
      let answer = try #require(row[0] as? String)
      #expect(Self.isSame(AnswerNormalizer.normalized(answer), row[1] as? String), "\(answer)")
      #expect(Self.isSame(AnswerNormalizer.normalizedByServer(answer), row[2] as? String), "\(answer)")
    }
  }

  @Test func `soft accuracy is that of TextVQA and of the server of VQAv2`() throws {
    for name in ["textvqa", "vqav2"] {
      for row in try Self.rows(name) {
        let (annotations, answer) = (try #require(row[0] as? [String]), try #require(row[1] as? String))
        let found =
          name == "textvqa"
          ? SoftAccuracy(annotations: annotations).value(of: answer)
          : SoftAccuracy(scoredByServer: annotations).value(of: AnswerNormalizer.normalized(answer))
        #expect(abs(found - (try #require(row[2] as? Double))) < 1e-9, "\(name): \(annotations) \(answer)")
      }
    }
  }

  @Test func `yes and no are read as in POPE and MME`() throws {
    for row in try Self.rows("pope") {
      #expect(YesNo.isYesForPOPE(try #require(row[0] as? String)) == row[1] as? Bool, "\(row[0])")
    }
    for row in try Self.rows("mme") {
      #expect(YesNo.isYesForMME(try #require(row[0] as? String)) == row[1] as? Bool, "\(row[0])")
    }
  }

  @Test func `POPE has the published accuracy, precision, recall, F1 and yes ratio`() throws {
    let expected = try #require(Self.object()["popeScore"] as? [String: Any])
    var confusion = ConfusionMatrix()
    for (index, text) in try #require(expected["texts"] as? [String]).enumerated() {
      confusion.add(predicted: YesNo.isYesForPOPE(text), actual: index.isMultiple(of: 2))
    }
    let found = [
      "Accuracy": Double(confusion.correct) / Double(confusion.count), "Precision": confusion.precision,
      "Recall": confusion.recall, "F1 score": confusion.f1, "Yes ratio": confusion.yesRatio,
    ]
    for (name, value) in found { #expect(abs(value - (expected[name] as? Double ?? -1)) < 1e-12, "\(name)") }
  }

  @Test func `ScienceQA's letters are the published ones`() throws {
    for row in try Self.rows("scienceqa") {
      let (answer, choices) = (try #require(row[0] as? String), try #require(row[1] as? Int))
      #expect(OptionLetter.parsedForScienceQA(answer, choices: choices) == row[2] as? Int, "\(answer) \(choices)")
    }
  }

  /// Six questions, of which the third image has no answer; the published scorer keeps it in all denominators.
  @Test func `SEED-Bench has the published scores`() throws {
    let expected = try #require(Self.object()["seed"] as? [String: Any])
    let questions = (0..<6).map {
      #"{"question_id": "\#($0)", "answer": "A", "data_type": "\#($0 < 4 ? "image" : "video")", "#
        + #""question_type_id": \#(1 + $0 % 2)}"#
    }
    let folder = try BenchmarkFolder(
      "seed",
      [
        "seed_bench/SEED-Bench.json":
          #"{"questions": [\#(questions.joined(separator: ","))], "question_type": {"Scene": 1, "Identity": 2}}"#
      ])
    let score = try folder.score(
      try #require(expected["texts"] as? [String: String]).map { llavaLine($0.key, $0.value) })
    for (name, key) in [("accuracy", "Total"), ("image", "image"), ("Scene", "Scene"), ("Identity", "Identity")] {
      // The published scorer prints two digits.
      #expect(abs(score.value(name) - (expected[key] as? Double ?? -1)) < 0.005, "\(name)")
    }
    #expect(score["image"]?.count == 4 && score["video"]?.count == 2)
  }
}
