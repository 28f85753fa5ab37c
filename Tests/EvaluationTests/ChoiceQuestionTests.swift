import Evaluation
import Foundation
import Testing

/// Benchmarks with yes-or-no and multiple-choice questions.
@Suite struct ChoiceQuestionTests {
  private static let short = #"\nAnswer the question using a single word or phrase."#

  /// Two questions in each category, with the labels yes and no. The files of labels have other ids and another order,
  /// and a question more.
  private static func popeFiles(labels: [String] = ["yes", "no", "yes"]) -> [String: String] {
    var questions: [String] = []
    var files: [String: String] = [:]
    for (index, category) in ["adversarial", "popular", "random"].enumerated() {
      for k in 0..<2 {
        questions.append(
          #"{"question_id": \#(2 * index + k), "image": "\#(k).jpg", "text": "Is there a dog?\#(short)", "#
            + #""category": "\#(category)"}"#)
      }
      let lines = labels.enumerated().map {
        #"{"question_id": 1, "image": "\#($0).jpg", "text": "Is there a dog?", "label": "\#($1)"}"#
      }
      files["pope/coco/coco_pope_\(category).json"] = lines.reversed().joined(separator: "\n")
    }
    files["pope/llava_pope_test.jsonl"] = questions.joined(separator: "\n")
    return files
  }

  /// The labels are yes, no. Adversarial: yes, yes, so TP 1, FP 1, F1 2/3; popular: yes, no, so F1 1; random: no, no,
  /// so TP 0, FN 1, F1 0.
  @Test func `POPE pairs labels by image and text, and averages F1`() throws {
    let folder = try BenchmarkFolder("pope", Self.popeFiles())
    let texts = ["Yes", "Yes.", "Yes", "No", "No", "There is not"]
    let lines = texts.enumerated().map { llavaLine("\($0)", $1, prompt: "Is there a dog?\nAnswer.") }
    // The order of the answers does not matter.
    for lines in [lines, lines.reversed()] {
      let score = try folder.score(lines)
      #expect(abs(score.value("F1") - 100 * (2.0 / 3 + 1 + 0) / 3) < 1e-9)
      #expect(score.value("adversarial precision") == 50 && score.value("random accuracy") == 50)
      #expect(score.value("popular yes ratio") == 50 && score.value("adversarial recall") == 100)
    }
    // A missing answer counts as wrong: the popular category has FN 1, TN 1.
    #expect(try folder.score(lines.filter { !$0.contains(": 2,") }).value("popular F1") == 0)
    let part = try folder.score(Array(lines[..<2]), countsMissing: false)
    #expect(abs(part.value("F1") - 100 * 2.0 / 3) < 1e-9)
    #expect(part.notes == ["pope: no questions of popular, random, so the mean does not include these categories"])
  }

  /// The labels are yes, no in each category.
  @Test func `the likelihood of choices is scored beside the text, with its calibration`() throws {
    let folder = try BenchmarkFolder("pope", Self.popeFiles())
    #expect(try folder.questions().allSatisfy { folder.benchmark.choices(of: $0) == ["Yes", "No"] })
    // The texts are wrong, the likelihoods right, except for the last.
    let yes = [0.9, 0.2, 0.8, 0.4, 0.6, 0.7]
    let lines = yes.enumerated().map { id, p in
      let (yes, no) = (log(p / 2), log((1 - p) / 2))
      return llavaLine("\(id)", id % 2 == 0 ? "No" : "Yes", prompt: "Is there a dog?").replacing(
        #""metadata""#, with: #""choice_logprobs": {"Yes": \#(yes), "No": \#(no)}, "metadata""#)
    }
    #expect(try folder.score(lines).value("F1") == 0)
    let metrics = try folder.likelihood(lines)
    #expect(metrics.first { $0.name == "popular accuracy by likelihood" }?.value == 100)
    #expect(metrics.first { $0.name == "random accuracy by likelihood" }?.value == 50)
    // Confidences 0.9, 0.8, 0.8, 0.6, 0.6 are right, 0.7 is wrong. In bins: 0.1 + 0.4 + 0.8 + 0.7.
    let calibration = try #require(metrics.first { $0.name.contains("ECE") })
    #expect(abs(calibration.value - 100 * (0.1 + 0.4 + 0.8 + 0.7) / 6) < 1e-9)
    #expect(try folder.likelihood([llavaLine("0", "Yes")], countsMissing: false).isEmpty)
    let damaged = lines[0].replacing(#""Yes": "#, with: #""Yes": "x", "y": "#)
    try folder.expectError(#"line 1: choice_logprobs: expected a number for "Yes", found "x""#, scoring: [damaged])
  }

  @Test func `the letters of a prompt's options are its choices`() {
    let prompt = "A. Smith took this.\nWhich?\nA. a dog\nB. a cat\nC. None\nAnswer with the option's letter."
    #expect(Question.optionLetters(in: prompt) == ["A", "B", "C"])
    #expect(Question.optionLetters(in: "What is it?").isEmpty)
  }

  @Test func `POPE reports missing labels, contradictions, repeated ids and prompts of other questions`() throws {
    let answer = [llavaLine("0", "Yes")]
    try BenchmarkFolder("pope", Self.popeFiles(labels: ["yes"])).expectError(
      #"llava_pope_test.jsonl, line 2: expected a question with a label in pope/coco/coco_pope_adversarial.json, "#
        + #"found none for the image "1.jpg" and the question "Is there a dog?""#, scoring: answer)
    try BenchmarkFolder("pope", Self.popeFiles(labels: ["Ja", "no"])).expectError(
      #"coco_pope_adversarial.json, line 2: label: expected yes or no, found "Ja""#, scoring: answer)
    var files = Self.popeFiles()
    files["pope/coco/coco_pope_random.json"]?.replace("2.jpg", with: "0.jpg")
    files["pope/coco/coco_pope_random.json"]?.replace(#""yes"}"#, with: #""no"}"#, maxReplacements: 1)
    try BenchmarkFolder("pope", files).expectError("coco_pope_random.json, line 3: the question", scoring: answer)
    files = Self.popeFiles()
    files["pope/llava_pope_test.jsonl"]?.replace("\"question_id\": 3", with: "\"question_id\": 2")
    try BenchmarkFolder("pope", files).expectError("line 4: question_id: \"2\" occurs twice", scoring: answer)
    let folder = try BenchmarkFolder("pope", Self.popeFiles())
    try folder.expectError(
      "answers.jsonl, line 2: prompt: expected the question \"1\"",
      scoring: answer + [llavaLine("1", "Yes", prompt: "Is there a cat?\nAnswer.")])
  }

  private static let mmeFiles = [
    "MME/llava_mme.jsonl": #"{"question_id": "color/1.png", "image": "color/images/1.png", "text": "Q"}"#,
    "MME/MME_Benchmark_release_version/color/1.txt": """
    Is it red? Please answer yes or no.\tYes
    Is it blue?  Please answer yes or no.\tNo

    """,
    "MME/MME_Benchmark_release_version/color/2.txt": """
    Is it red? Please answer yes or no.\tYes
    Is it blue? Please answer yes or no.\tNo
    """,
    "MME/MME_Benchmark_release_version/code_reasoning/questions_answers_YN/7.txt": """
    Is it C? Please answer yes or no.\tYes
    Is it Lisp? Please answer yes or no.\tNo
    """,
  ]

  private static func mmeLines(_ texts: [String]) -> [String] {
    let questions = [
      ("color/1.png", "Is it red?"), ("color/1.png", "Is it blue?"), ("color/2.png", "Is it red?"),
      ("color/2.png", "Is it blue?"), ("code_reasoning/7.png", "Is it C? Please answer yes or no."),
      ("code_reasoning/7.png", "Is it Lisp?"),
    ]
    return zip(questions, texts).map {
      llavaLine("\"\($0.0)\"", $1, prompt: "\($0.1)\nAnswer the question using a single word or phrase.")
    }
  }

  /// color: 3 of 4 questions and 1 of 2 images correct, 75 + 50; code reasoning: 1 of 2 questions and no image, 50.
  @Test func `MME adds accuracy and accuracy of pairs, by category`() throws {
    let folder = try BenchmarkFolder("mme", Self.mmeFiles)
    let score = try folder.score(Self.mmeLines(["Yes", "No.", "Yes", "Yes", "yes", "perhaps"]))
    #expect(score.value("color") == 125 && score.value("perception") == 125)
    #expect(score.value("cognition") == 50 && score.value("total") == 175)
    #expect(score.notes.first?.contains("existence") == true)
    // The images of color have 200 and 50 points: the standard error of their mean is 75, and 1.96 times that is 147.
    #expect(score["color"]?.interval == Interval(0, 200))
    let half = try folder.score(Array(Self.mmeLines(["Yes", "No"])), countsMissing: false)
    #expect(half.value("perception") == 200 && half["cognition"] == nil)
    #expect(try folder.score(Self.mmeLines(["Yes", "No"])).value("perception") == 100)
  }

  @Test func `MME's submission has the text file and the correct answer`() throws {
    let folder = try BenchmarkFolder("mme", Self.mmeFiles)
    let files = try folder.submissions(Self.mmeLines(["Yes", "No\\tor\\nyes", "a", "b", "c", "d"]))
    #expect(files.map(\.suffix) == ["/color.txt", "/code_reasoning.txt"])
    #expect(
      files[0].text.hasPrefix(
        "1.txt\tIs it red? Please answer yes or no.\tYes\tYes\n"
          + "1.txt\tIs it blue?  Please answer yes or no.\tNo\tNo or yes\n"
      ))
    try folder.expectError(
      "answers.jsonl, line 1: question_id: \"color/9.png\" has a question that is not in \"9.txt\"",
      scoring: [llavaLine("\"color/9.png\"", "Yes", prompt: "Is it red?")])
    try folder.expectError("expected category/file", scoring: [llavaLine("\"9.png\"", "Yes", prompt: "Is it red?")])
    let damaged = try BenchmarkFolder(
      "mme", ["MME/MME_Benchmark_release_version/OCR/1.txt": "Is it?\tYes\nIs it? No\n"])
    try damaged.expectError("OCR/1.txt, line 2: expected a question, a tab", scoring: Self.mmeLines(["Yes"]))
  }

  /// Of three answers, the first (with an image) is correct, the second names no existing option, the third is missing.
  @Test func `ScienceQA scores all questions, and those with an image`() throws {
    let folder = try BenchmarkFolder(
      "scienceqa",
      [
        "scienceqa/llava_test_CQM-A.json": """
        [{"id": "4", "image": "4/image.png", "conversations": [{"from": "human", "value": "<image>\\nContext: N/A"}]},
        {"id": "5", "conversations": [{"from": "human", "value": "Which?"}]}]
        """,
        "scienceqa/problems.json": """
        {"4": {"answer": 1, "choices": ["a", "b"]}, "5": {"answer": 1, "choices": ["a", "b"]},
        "6": {"answer": 0, "choices": ["a", "b"]}, "9": {}}
        """,
        "scienceqa/pid_splits.json": #"{"test": ["4", "5", "6"], "train": ["9"]}"#,
      ])
    let letter = "Answer with the option's letter from the given choices directly."
    #expect(
      try folder.questions()
        == [
          Question(
            id: QuestionID("4"), image: .file("scienceqa/images/test/4/image.png"),
            text: "<image>\nContext: N/A\n\(letter)"),
          Question(id: QuestionID("5"), image: .none, text: "Which?\n\(letter)"),
        ])
    let score = try folder.score([
      llavaLine("\"4\"", "B. b", prompt: "<image>\nContext: N/A"), llavaLine("\"5\"", "C", prompt: "Which?"),
    ])
    #expect(abs(score.value("accuracy") - 100.0 / 3) < 1e-9 && score.value("IMG accuracy") == 100)
    #expect(score["accuracy"]?.count == 3 && score["IMG accuracy"]?.count == 1)
  }

  /// Ids are strings in one file and numbers in the other; `A.` is not `A`.
  @Test func `SEED-Bench requires the exact letter`() throws {
    let questions = [("1", "A", "image", 1), ("2", "A", "image", 2), ("v3", "C", "video", 2)].map {
      #"{"question_id": "\#($0.0)", "answer": "\#($0.1)", "data_type": "\#($0.2)", "question_type_id": \#($0.3)}"#
    }
    let folder = try BenchmarkFolder(
      "seed",
      [
        "seed_bench/SEED-Bench.json":
          #"{"questions": [\#(questions.joined(separator: ","))], "question_type": {"Scene": 1, "Identity": 2}}"#
      ])
    let lines = [llavaLine("1", "A"), llavaLine("2", "A."), llavaLine("\"v3\"", "C")]
    let score = try folder.score(lines)
    #expect(abs(score.value("accuracy") - 200.0 / 3) < 1e-9)
    #expect(score.value("image") == 50 && score.value("video") == 100)
    #expect(score.value("Scene") == 100 && score.value("Identity") == 50)
    #expect(try folder.submissions(lines)[0].text.hasPrefix(#"{"prediction":"A","question_id":"1"}"# + "\n"))
  }

  private static let base64 = String(repeating: "QUJD", count: 20)

  /// Questions 1 and 2, each in two orders. In the first order both are correct, in the second only question 2.
  /// So the accuracy is 100% by letter and 50% circular.
  @Test func `MMBench scores by letter and over all orders of the options`() throws {
    let rows = [
      "1\tWhich?\tLook.\tcat\tdog\t\tnan\tA\tx\t\(Self.base64)", "1000001\tWhich?\tLook.\tdog\tcat\t\tnan\tB\tx\t1",
      "2\t\"Or\n\"\"this\"\"?\"\tnan\tcat\tdog\tcow\tpig\tD\ty\t\(Self.base64)",
      "1000002\tOr?\tnan\tpig\tdog\tcow\tcat\tA\ty\t2",
    ]
    let table = (["index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage"] + rows).joined(separator: "\n") + "\n"
    let folder = try BenchmarkFolder("mmbench", ["mmbench/mmbench_dev_20230712.tsv": table])
    let letter = "Answer with the option's letter from the given choices directly."
    let texts = try folder.questions().map(\.text)
    #expect(texts[0] == "Look.\nWhich?\nA. cat\nB. dog\n\(letter)")
    #expect(texts[2] == "Or\n\"this\"?\nA. cat\nB. dog\nC. cow\nD. pig\n\(letter)")
    let lines = [("1", "A"), ("1000001", "A"), ("2", "D. pig"), ("1000002", "a")].map { llavaLine($0.0, $0.1) }
    let score = try folder.score(lines)
    #expect(score.value("accuracy") == 100 && score.value("circular") == 50 && score.value("x") == 100)
    let upload = try folder.submissions(lines)[0].text
    #expect(upload.hasPrefix("index\tquestion\tA\tB\tC\tD\tprediction\tanswer\n1\tWhich?\tcat\tdog\t\tnan\tA\tA\n"))
    #expect(upload.contains("2\t\"Or\n\"\"this\"\"?\"\tcat\tdog\tcow\tpig\tD. pig\tD\n"))
    let chinese = try BenchmarkFolder("mmbench-cn", ["mmbench/mmbench_dev_cn_20231003.tsv": table])
    #expect(try chinese.questions()[0].text.hasSuffix("\n请直接回答选项字母。"))
  }

  /// Category x: 1 of 2; y: 1 of 1. The mean over categories is 75, over questions 66.7.
  @Test func `MMStar averages its categories`() throws {
    let rows = [("1", "A", "x"), ("2", "B", "x"), ("3", "C", "y")].map {
      "\($0.0)\tq\t\(Self.base64)\t1\t2\t3\t\($0.1)\t\($0.2)"
    }
    let table = (["index\tquestion\timage\tA\tB\tC\tanswer\tcategory"] + rows).joined(separator: "\n")
    let lines = [llavaLine("1", "(a) one"), llavaLine("2", "C"), llavaLine("3", "The answer is C")]
    let score = try BenchmarkFolder("mmstar", ["mmstar/MMStar.tsv": table]).score(lines)
    #expect(score.value("mean of categories") == 75 && abs(score.value("accuracy") - 200.0 / 3) < 1e-9)
    let diagrams = try BenchmarkFolder("ai2d", ["ai2d/AI2D_TEST.tsv": table])
    #expect(try abs(diagrams.score(lines).value("accuracy") - 200.0 / 3) < 1e-9)
  }
}
