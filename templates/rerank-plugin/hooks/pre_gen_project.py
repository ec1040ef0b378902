"""Refuse names with which the plugin could not be built, imported or registered."""

import keyword
import re
import sys

NAME = {{ cookiecutter.name | jsonify }}
SUMMARY = {{ cookiecutter.summary | jsonify }}
AUTHOR = {{ cookiecutter.author | jsonify }}
BACKEND = {{ cookiecutter.backend | jsonify }}
MODULE = {{ cookiecutter.module | jsonify }}

DISTRIBUTIONS = {
    *("rerank", "rerank-api", "rerank-colbert", "rerank-core", "rerank-crossencoder", "rerank-http", "rerank-listwise"),
    *("rerank-llm", "rerank-nano", "rerank-onnx", "rerank-torch", "rerank-vectors"),
    *("rerank-compose", "rerank-eval", "rerank-ray", "rerank-serve"),
}
"""This project's distributions, and the names that it keeps for later ones."""
BACKENDS = {
    *("api", "azure-cohere", "bedrock", "bge-reranker-base", "bge-reranker-large", "bge-reranker-v2-m3", "cohere"),
    *("colbert", "contextual", "cross-encoder", "dashscope", "deepinfra", "duot5", "fireworks", "flashrank", "generic"),
    *("infinity", "isaacus", "jina", "jina-v3", "lit5", "llamacpp", "llm-filter", "llm-layerwise", "llm-lightweight"),
    *("llm-listwise", "llm-pointwise", "llm-relevance-filter", "localai", "mixedbread", "mxbaiv2", "nano", "nvidia"),
    *("onnx", "pinecone", "pylate", "rankgpt", "rankgpt3", "rankgpt4", "rankllm", "rankvicuna", "rankzephyr", "sglang"),
    *("siliconflow", "t5", "tei", "text-embeddings-inference", "together", "vertex", "vllm", "vllm-score", "voyage"),
    *("xinference", "zeroentropy"),
}
"""Backends of this project and their short names: a plugin that takes one does not register."""

MODULES = {
    *("rerank", "pydantic", "pydantic_core", "pluggy", "click", "pytest", "_pytest", "iniconfig", "packaging", "hatchling"),
    *("importlib_metadata", "typing_extensions", "annotated_types", "typing_inspection", "zipp", "pygments", "exceptiongroup"),
    *("pip", "setuptools", "pkg_resources", "wheel", "tests", "test", "site", "src"),
    *("numpy", "scipy", "pandas", "polars", "torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "peft"),
    *("accelerate", "datasets", "sentence_transformers", "sentencepiece", "tiktoken", "onnx", "onnxruntime", "tensorflow"),
    *("jax", "flax", "vllm", "sglang", "llama_cpp", "litellm", "openai", "cohere", "anthropic", "boto3", "botocore", "httpx"),
    *("requests", "aiohttp", "yaml", "tqdm", "rich", "langchain", "llama_index", "haystack", "rerankers", "flashrank"),
    *sys.stdlib_module_names,
}
"""Modules that the plugin, its model or its interpreter may import."""

DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
"""Names that no file or folder can have on Windows."""

LONGEST = 60
"""Letters of a name: files of it must fit into paths and the columns of listings."""

WORDS = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def problems():
    """What is wrong, a line each."""
    for what, value, taken in (("name", NAME, DISTRIBUTIONS), ("backend", BACKEND, BACKENDS)):
        if not WORDS.fullmatch(value):
            yield (
                f"the {what} {value!r} is not made of words: write lower-case letters, digits and single hyphens, with a "
                "letter first, such as 'rerank-acme' and its backend 'acme'"
            )
        elif value in taken:
            yield f"the {what} {value!r} is taken by this project: choose another"
    if NAME.replace("-", "_") in MODULES - {"rerank"}:
        yield f"the name {NAME!r} is that of another package: choose another, such as 'rerank-{NAME}'"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", MODULE) or keyword.iskeyword(MODULE) or keyword.issoftkeyword(MODULE):
        yield (
            f"the module {MODULE!r} cannot be imported: write lower-case letters, digits and underscores, with a letter "
            "first, and no word of Python's own, such as 'rerank_acme'"
        )
    elif MODULE in MODULES or MODULE.replace("_", "-") in DISTRIBUTIONS:
        yield f"the module {MODULE!r} would hide another of that name: choose another"
    for what, value in (("name", NAME), ("backend", BACKEND), ("module", MODULE)):
        if len(value) > LONGEST:
            yield f"the {what} {value[:20]!r}… has {len(value)} letters: write at most {LONGEST}"
        if value in DEVICES:
            yield f"the {what} {value!r} is that of a device on Windows, where no file can have it: choose another"
    for what, value in (("summary", SUMMARY), ("author", AUTHOR)):
        if not value.strip() or not value.isprintable() or set(value) & set('"\\'):
            yield f"the {what} {value!r} cannot be written into the files: give one line without double quotes or backslashes"


found = list(problems())
if found:
    sys.exit("\n".join(found))
