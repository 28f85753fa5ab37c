import Foundation
import TestSupport
import Testing

/// A data folder with a tiny POPE and TextVQA over the bundled images, and runs of `pdrop-eval` on it.
struct EvaluationFolder: ~Copyable {
  let folder: TemporaryFolder
  var data: String { folder.path("data") }
  var output: String { folder.path("output") }

  init() throws {
    let folder = try TemporaryFolder()
    let short = #"\nAnswer the question using a single word or phrase."#
    var questions: [String] = []
    var labels: [String: [String]] = [:]
    for (index, category) in ["adversarial", "popular", "random", "random"].enumerated() {
      let image = ["bike", "river"][index % 2]
      questions.append(
        #"{"question_id": \#(index), "image": "\#(image).png", "text": "Is there a bike?\#(short)", "#
          + #""category": "\#(category)"}"#)
      labels[category, default: []].append(
        #"{"question_id": 1, "image": "\#(image).png", "text": "Is there a bike?", "#
          + #""label": "\#(index % 2 == 0 ? "yes" : "no")"}"#)
    }
    for (category, lines) in labels {
      try folder.write("data/pope/coco/coco_pope_\(category).json", lines.joined(separator: "\n"))
    }
    try folder.write("data/pope/llava_pope_test.jsonl", questions.joined(separator: "\n") + "\n")
    try folder.write(
      "data/textvqa/llava_textvqa_val_v051_ocr.jsonl",
      #"{"question_id": "b", "image": "bike.png", "#
        + #""text": "What number is at the top right?\nReference OCR token: 635.99\#(short)"}"# + "\n")
    for (folderName, names) in [("pope/val2014", ["bike", "river"]), ("textvqa/train_images", ["bike"])] {
      for name in names {
        let image = try Data(contentsOf: URL(filePath: "\(BatchFolder.samples)/\(name).png"))
        try folder.write("data/\(folderName)/\(name).png", Array(image))
      }
    }
    try Self.writeTextVQA(answer: "635.99", in: folder)
    self.folder = folder
  }

  /// Writes the answers of ten annotators to the only question of TextVQA.
  static func writeTextVQA(answer: String, in folder: borrowing TemporaryFolder) throws {
    let answers = Array(repeating: "\"\(answer)\"", count: 10).joined(separator: ", ")
    try folder.write(
      "data/textvqa/TextVQA_0.5.1_val.json",
      #"{"data": [{"image_id": "b", "question": "What number is at the top right?", "answers": [\#(answers)]}]}"#)
  }

  /// A run with deterministic answers, byte for byte.
  func run(_ more: [String] = []) throws -> ProgramRun {
    try ProgramRun(
      ["run", "--data", data, "--output", output, "-t", "1", "-n", "4", "--no-timings", "--progress", "none"] + more,
      program: "pdrop-eval")
  }

  func score(_ more: [String] = []) throws -> ProgramRun {
    try ProgramRun(["score", "--data", data] + more, program: "pdrop-eval")
  }

  func bytes(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: folder.url.appending(path: name))) }

  /// The objects of a JSONL table or file.
  static func rows(_ text: String) throws -> [[String: Any]] {
    try text.split(separator: "\n").map { line in
      try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    }
  }
}
