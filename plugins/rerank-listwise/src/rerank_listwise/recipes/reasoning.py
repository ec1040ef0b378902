"""Models that think before they rank: Rank-R1, Rank-K and ReasonRank (arXiv 2503.06034, 2505.14432, 2508.07050)."""

from __future__ import annotations

from typing import Any, Final

from rerank_listwise.recipe import Recipe, Turn
from rerank_listwise.recipes.rank_llm import in_one_message

_R1: Final[dict[str, Any]] = {
    "kind": "best",
    "reads": "choice",
    "algorithm": "setwise-heapsort",
    "children": 19,
    "max_passage_tokens": 512,
}
_R1_SYSTEM: Final = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
)
_R1_QUESTION: Final = 'Given the query: "{query}", which of the following documents is most relevant?\n{passages}\n'
_R1_ANSWER: Final = (
    "provide only the label of the most relevant document to the query, enclosed in square brackets, "
    "within the answer tags. For example, if the third document is the most relevant, the answer should be: "
)
_REASON_RANK: Final = (
    "You are RankLLM, an intelligent assistant that can rank passages based on their relevance to the query."
)

RECIPES: Final = (
    Recipe(
        name="rank-r1",
        source="ielab/llm-rankers, Rank-R1/prompts/prompt_setwise-R1.toml and create_dataset.py",
        turns=(
            Turn(
                role="system",
                text=f"{_R1_SYSTEM}first thinks about the reasoning process in the mind "
                "and then provides the user with the answer. "
                "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
                "respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>.",
            ),
            Turn(
                role="user",
                text=f"{_R1_QUESTION}After completing the reasoning process, please {_R1_ANSWER}"
                "<think> reasoning process here </think> <answer>[3]</answer>.",
            ),
        ),
        answer_tokens=2048,
        models=("ielabgroup/Rank-R1-3B-v0.1", "ielabgroup/Rank-R1-7B-v0.1", "ielabgroup/Rank-R1-14B-v0.1"),
        **_R1,
    ),
    Recipe(
        name="rank-r1-v0.2",
        source="ielab/llm-rankers, Rank-R1/prompts/prompt_setwise-R1-v0.2.toml and create_dataset_v0.2.py",
        turns=(
            Turn(
                role="system",
                text="You are RankLLM, an intelligent assistant capable of evaluating the relevancy of passages "
                "to a given query.",
            ),
            Turn(
                role="user",
                text="You will be presented with a query, and a set of documents.\n\n"
                "Your task consists of the following step:\n\n"
                "1. Analyze the query: Carefully read the query and identify the core problem or question being asked.\n\n"
                "2. Analyze the documents: Thoroughly examine each document "
                "and briefly explain how each document is relevant or not relevant to the query.\n\n"
                "3. Find the most relevant document: Based on your analysis, select the most relevant document "
                "to the query from the set and briefly explain why.\n\n"
                "Important: Provide your analysis within the <think> </think> tags "
                "and answer only the label of the most relevant document, enclosed in square brackets, "
                "within the <answer> </answer> tags. "
                "For example, if the third document is the most relevant, your response should be:\n"
                "<think> Your analysis here </think>\n"
                "<answer>[3]</answer>\n\n"
                "Here is the query: {query}\n\n"
                "Here are the documents:\n"
                "{passages}",
            ),
        ),
        passage="[{number}]: {passage}",
        separator="\n\n",
        answer_tokens=2048,
        models=("ielabgroup/Rank-R1-32B-v0.2",),
        **{**_R1, "children": 9},
    ),
    Recipe(
        name="setwise-sft",
        source="ielab/llm-rankers, Rank-R1/prompts/prompt_setwise.toml and create_dataset_sft.py: Rank-R1 without thoughts",
        turns=(
            Turn(
                role="system",
                text=f"{_R1_SYSTEM}provides the user with the answer enclosed within <answer> </answer> tags, "
                "i.e., <answer> answer here </answer>.",
            ),
            Turn(role="user", text=f"{_R1_QUESTION}Please {_R1_ANSWER}<answer>[3]</answer>."),
        ),
        models=("ielabgroup/Setwise-SFT-*",),
        **_R1,
    ),
    Recipe(
        name="rank-k",
        source="hltcoe/rank-k, rerank.py and utils.py",
        turns=(
            Turn(
                role="user",
                text="\nDetermine a ranking of the passages based on how relevant they are to the query. \n"
                "If the query is a question, how relevant a passage is depends on how well it answers the question. \n"
                "If not, try analyze the intent of the query and assess how well each passage satisfy the intent. \n"
                "The query may have typos and passages may contain contradicting information. \n"
                "However, we do not get into fact-checking. "
                "We just rank the passages based on they relevancy to the query. \n\n"
                "Sort them from the most relevant to the least. \n"
                "Answer with the passage number using a format of `[3] > [2] > [4] = [1] > [5]`. \n"
                "Ties are acceptable if they are equally relevant. \n"
                "I need you to be accurate but overthinking it is unnecessary.\n"
                "Output only the ordering without any other text.\n\n"
                "Query: {query}\n\n"
                "{passages}\n",
            ),
        ),
        separator="\n\n",
        reads="ties",
        answer_tokens=4000,
        temperature=0.7,
        models=("hltcoe/Rank-K-32B",),
    ),
    Recipe(
        name="reasonrank",
        source="8421BCD/ReasonRank, listwise_prompt_r1.toml, utils.py and rerank/rank_listwise_os_llm.py",
        turns=(
            Turn(
                role="system",
                text=f"{_REASON_RANK} Given a query and a passage list, "
                "you first thinks about the reasoning process in the mind "
                "and then provides the answer (i.e., the reranked passage list). "
                "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
                "respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>.",
            ),
            in_one_message("[2] > [1]", ".", output="format of the answer"),
        ),
        answer_tokens=3172,
        models=("liuwenhan/reasonrank-7B", "liuwenhan/reasonrank-32B"),
    ),
    Recipe(
        name="reasonrank-qwen3",
        source="8421BCD/ReasonRank, the prompt mode rank_GPT_qwen3 of utils.py, for models that think of their own accord",
        turns=(
            Turn(role="system", text=_REASON_RANK),
            in_one_message(
                "[2] > [1]",
                ". Only respond with the ranking results, do not say any word or explain.",
                output="final ranked list should be enclosed within <answer> </answer> tags, "
                "i.e., <answer> ranked list here </answer>. The format of ranked list",
            ),
        ),
        answer_tokens=3172,
        temperature=0.6,
        top_p=0.95,
        models=("liuwenhan/reasonrank-8B",),
    ),
)
