"""The classes by which other programs take a model."""


import json
from pathlib import Path

import numpy as np
import pytest

from bitnet_rust import Model, errors
from bitnet_rust.encoder import SentenceEncoder


def test_an_encoder_is_shaped_as_of_sentence_transformers(model: Model) -> None:
    encoder = SentenceEncoder(model, prompts={"query": "Find the story"}, truncate_dim=32)
    vectors = encoder.encode(["a cat", "a dog"], batch_size=1, show_progress_bar=False)
    assert vectors.shape == (2, encoder.get_sentence_embedding_dimension()) == (2, 32)
    assert np.array_equal(encoder.encode("a cat"), vectors[0])
    assert np.array_equal(encoder.encode_document("a cat"), vectors[0])
    assert not np.array_equal(encoder.encode_query("a cat"), vectors[0])
    cosines = encoder.similarity(vectors, vectors)
    assert np.allclose(np.diag(cosines), 1, atol=1e-6)
    with pytest.raises(errors.ArgumentError, match="prompt_name"):
        encoder.encode("a", prompt_name="passage")
    with pytest.raises(errors.ArgumentError, match="convert_to_tensor"):
        encoder.encode("a", convert_to_tensor=True)


def test_langchain_embeds_and_chats(model: Model) -> None:
    pytest.importorskip("langchain_core")
    from bitnet_rust.langchain import BitnetChat, BitnetEmbeddings

    embeddings = BitnetEmbeddings(model, dimensions=16)
    assert np.array(embeddings.embed_documents(["a", "b"])).shape == (2, 16)
    assert embeddings.embed_query("a") == embeddings.embed_documents(["a"])[0]
    chat = BitnetChat(model=model, options={"temperature": 0, "max_tokens": 24})
    answer = chat.invoke("What is 20 + 22?")
    assert "42" in answer.content
    assert answer.usage_metadata["output_tokens"] > 0
    pieces = [chunk.content for chunk in chat.stream("What is 20 + 22?")]
    assert "".join(pieces) == answer.content


def test_the_harness_asks_in_all_its_ways(model: Model) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance

    from bitnet_rust.evaluation import Evaluated

    evaluated = Evaluated(model)

    def asked(kind: str, *arguments: object) -> Instance:
        return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)

    text = "Once upon a time there was a little cat."
    rolling = evaluated.loglikelihood_rolling([asked("loglikelihood_rolling", text)])[0]
    assert rolling == pytest.approx(model.score([text])[0].logprob, abs=1e-9)
    best = model.generate("Once upon a time", max_tokens=4, temperature=0).text
    pairs = [asked("loglikelihood", "Once upon a time", best), asked("loglikelihood", "", text)]
    (likely, is_greedy), (alone, _) = evaluated.loglikelihood(pairs, disable_tqdm=True)
    assert is_greedy
    assert -20 < likely < 0
    assert alone == pytest.approx(rolling, abs=1e-9)
    until = asked("generate_until", "Once upon a time", {"until": ["."], "max_gen_toks": 40})
    assert "." not in evaluated.generate_until([until])[0]


def test_the_harness_runs_a_task_of_its_own(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    # Nothing of it is looked for elsewhere.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager

    from bitnet_rust.evaluation import Evaluated

    stories = ["Once upon a time", "The little dog"]
    docs = []
    for story in stories:
        best = model.generate(story, max_tokens=5, temperature=0).text
        docs.append({"story": story, "choices": [" zebra quantum", best], "answer": 1})
    data = tmp_path / "stories.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    task = ConfigurableTask(
        config={
            "task": "stories",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{story}}",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
            "target_delimiter": "",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    )
    # Without the thousands of tasks that it brings, whose descriptions take a minute to read.
    own = TaskManager(include_defaults=False)
    found = lm_eval.simple_evaluate(
        Evaluated(model), tasks=[task], task_manager=own, bootstrap_iters=0, log_samples=True
    )
    assert found["results"]["stories"]["acc,none"] == 1
    for sample in found["samples"]["stories"]:
        scores = model.score([sample["doc"]["story"]] * 2, sample["doc"]["choices"])
        assert sample["filtered_resps"] == [(score.logprob, score.is_greedy) for score in scores]
