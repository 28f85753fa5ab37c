import Evaluation
import Testing

/// Benchmarks with free-form answers.
@Suite struct OpenQuestionTests {
  private static let short = "Answer the question using a single word or phrase."

  /// Of two annotated questions, the first has the answer of 3 of 10 annotators: (3 * 2/3 + 7) / 10 = 0.9.
  @Test func `TextVQA matches answers by image and question`() throws {
    let answers = #"["red", "red", "red", "a", "b", "c", "d", "e", "f", "g"]"#
    let question =
      #"{"question_id": "p", "image": "p.jpg", "text": "What Colour?\nReference OCR token: A, B\n\#(Self.short)"}"#
    let files = [
      "textvqa/llava_textvqa_val_v051_ocr.jsonl": question + "\n",
      "textvqa/TextVQA_0.5.1_val.json": """
      {"data": [{"image_id": "p", "question": "what colour?", "answers": \(answers)},
      {"image_id": "p", "question": "what number?", "answers": \(answers)}]}
      """,
    ]
    let withOCR = try BenchmarkFolder("textvqa", files)
    let prompt = "What Colour?\nReference OCR token: A, B\n\(Self.short)"
    #expect(
      try withOCR.questions()
        == [Question(id: QuestionID("p"), image: .file("textvqa/train_images/p.jpg"), text: prompt)])
    let without = try BenchmarkFolder("textvqa-no-ocr", files)
    #expect(try without.questions().map(\.text) == ["What Colour?\n\(Self.short)"])
    for prompt in [
      prompt, "Reference OCR token: A\nWhat colour?\n\(Self.short)", "What colour?\n\(Self.short)",
      "OCR tokens: A. Question: What colour? Short answer:",
    ] {
      let line = llavaLine("\"p\"", "Red.", prompt: prompt)
      #expect(try abs(withOCR.score([line]).value("accuracy") - 45) < 1e-9)
      #expect(try abs(withOCR.score([line], countsMissing: false).value("accuracy") - 90) < 1e-9)
    }
    try withOCR.expectError(
      "answers.jsonl, line 1: prompt: expected a question, OCR tokens and",
      scoring: [llavaLine("\"p\"", "red", prompt: "one line")])
    try withOCR.expectError(
      "answers.jsonl, line 1: question_id: \"q\" is not an image of",
      scoring: [llavaLine("\"q\"", "red", prompt: "What colour?\n\(Self.short)")])
    try withOCR.expectError(
      "has no question \"What word?\" about the image \"p\"",
      scoring: [llavaLine("\"p\"", "red", prompt: "What word?\n\(Self.short)")])
  }

  /// Three questions: `Cat..` is `cat`, `a dog` is not `dog`, one is missing.
  @Test func `GQA compares in lower case without trailing periods`() throws {
    let folder = try BenchmarkFolder(
      "gqa",
      [
        "gqa/llava_gqa_testdev_balanced.jsonl": #"{"question_id": "1", "image": "a.jpg", "text": "?"}"# + "\n",
        "gqa/data/testdev_balanced_questions.json": """
        {"1": {"answer": "cat"}, "2": {"answer": "dog"}, "3": {"answer": "x"}}
        """,
      ])
    #expect(try folder.questions().map(\.image) == [.file("gqa/data/images/a.jpg")])
    let lines = [llavaLine("\"1\"", "Cat.."), llavaLine("\"2\"", "d-og")]
    #expect(try abs(folder.score(lines).value("accuracy") - 100.0 / 3) < 1e-9)
    #expect(try folder.score(lines, countsMissing: false).value("accuracy") == 50)
    #expect(try folder.score(lines, countsMissing: false).value("accuracy without punctuation") == 100)
    #expect(
      try folder.submissions(lines).map(\.text)
        == [#"[{"prediction":"cat","questionId":"1"},{"prediction":"d-og","questionId":"2"}]"#])
  }

  @Test func `VQAv2's submission has every question and normalized answers`() throws {
    let folder = try BenchmarkFolder(
      "vqav2",
      [
        "vqav2/llava_vqav2_mscoco_test-dev2015.jsonl": #"{"question_id": 1, "image": "a.jpg", "text": "?"}"# + "\n",
        "vqav2/llava_vqav2_mscoco_test2015.jsonl": #"{"question_id": 1}"# + "\n" + #"{"question_id": 2}"# + "\n",
      ])
    #expect(!folder.benchmark.hasGroundTruth)
    #expect(
      try folder.submissions([llavaLine("1", "Two dogs.")])
        == [Submission(suffix: ".json", text: #"[{"answer":"2 dogs","question_id":1},{"answer":"","question_id":2}]"#)])
  }

  /// Yes from all ten annotators scores 1; yes from one of ten scores (9 * 1/3) / 10 = 0.3.
  @Test func `validation questions of VQAv2 and VizWiz have soft accuracy`() throws {
    func answers(_ yes: Int) -> String {
      "[" + (0..<10).map { #"{"answer": "\#($0 < yes ? "yes" : "no")"}"# }.joined(separator: ", ") + "]"
    }
    let vqa = try BenchmarkFolder(
      "vqav2-val",
      [
        "vqav2/v2_OpenEnded_mscoco_val2014_questions.json":
          #"{"questions": [{"question_id": 7, "image_id": 42, "question": "Is it?"}]}"#,
        "vqav2/v2_mscoco_val2014_annotations.json": """
        {"annotations": [{"question_id": 7, "answer_type": "yes/no", "answers": \(answers(10))},
        {"question_id": 8, "answer_type": "other", "answers": \(answers(1))}]}
        """,
      ])
    #expect(
      try vqa.questions()
        == [
          Question(
            id: QuestionID(7), image: .file("vqav2/val2014/COCO_val2014_000000000042.jpg"),
            text: "Is it?\n\(Self.short)")
        ])
    let score = try vqa.score([llavaLine("7", "Yes"), llavaLine("8", "yes")])
    #expect(abs(score.value("accuracy") - 65) < 1e-9 && score.value("yes/no") == 100)
    let vizWiz = try BenchmarkFolder(
      "vizwiz-val",
      ["vizwiz/val.json": #"[{"image": "a.jpg", "question": "Is it?", "answers": \#(answers(1))}]"#])
    #expect(try vizWiz.questions()[0].text.contains("'Unanswerable'.\n\(Self.short)"))
    #expect(try abs(vizWiz.score([llavaLine("\"a.jpg\"", "yes")]).value("accuracy") - 30) < 1e-9)
  }

  private static let base64 = String(repeating: "QUJD", count: 20)

  /// An answer with similarity 0.5, one below the threshold, and a row that references the image of another.
  @Test func `DocVQA reads a table with lists of answers`() throws {
    let table = """
      index\tquestion\timage\tanswer
      1\tWhat?\t\(Self.base64)\t['ab', 'x y']
      2\tWhere?\t1\there

      """
    let folder = try BenchmarkFolder("docvqa", ["docvqa/DocVQA_VAL.tsv": table])
    let questions = try folder.questions()
    #expect(questions.map(\.id) == [QuestionID(1), QuestionID(2)])
    #expect(questions.map(\.image) == [.base64(Self.base64), .base64(Self.base64)])
    #expect(questions[1].text == "Where?\n\(Self.short)")
    // 1 - 1/2 and 0.
    #expect(try folder.score([llavaLine("1", "xb"), llavaLine("2", "far off")]).value("ANLS") == 25)
    let broken = try BenchmarkFolder("docvqa", ["docvqa/DocVQA_VAL.tsv": table.replacing("\t1\t", with: "\t9\t")])
    try broken.expectError("DocVQA_VAL.tsv, line 3: image: expected base64 or the index of a row with an image")
  }

  @Test func `ChartQA uses relaxed match, OCRVQA exact match`() throws {
    let rows = ["1\tq\t\(Self.base64)\t10\ttest_human", "2\tq\t\(Self.base64)\tRed\ttest_augmented"]
    let table = (["index\tquestion\timage\tanswer\tsplit"] + rows).joined(separator: "\n")
    let chart = try BenchmarkFolder("chartqa", ["chartqa/ChartQA_TEST.tsv": table])
    let lines = [llavaLine("1", "10.5"), llavaLine("2", "blue")]
    let score = try chart.score(lines)
    #expect(score.value("relaxed accuracy") == 50 && score.value("human") == 100 && score.value("augmented") == 0)
    let covers = try BenchmarkFolder("ocrvqa", ["ocrvqa/OCRVQA_TESTCORE.tsv": table])
    #expect(try covers.score([llavaLine("1", "10.5"), llavaLine("2", "red ")]).value("accuracy") == 50)
  }

  @Test func `tiny-textvqa is scored by question family`() throws {
    let labels = (0..<3).map {
      #"{"question_id": \#($0), "category": "\#($0 < 2 ? "count" : "exist")", "answer": "\#($0)"}"#
    }
    let folder = try BenchmarkFolder(
      "tiny-textvqa", ["tiny-textvqa-eval/answers.jsonl": labels.joined(separator: "\n")])
    let score = try folder.score([
      llavaLine("0", "0"), llavaLine("1", "7"), #"{"question_id": 2, "error": {"code": "x"}}"#,
    ])
    #expect(abs(score.value("exact match") - 100.0 / 3) < 1e-9)
    #expect(score.value("count") == 50 && score.value("exist") == 0)
    #expect(score["count"]?.isMain == false && score["exact match"]?.count == 3)
  }
}
