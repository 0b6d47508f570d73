"""minillm: the road of language models, from rules to RLHF, small enough to read and run on a laptop.

The files in the order of history, which is also the only direction of imports: a file may import its own
folder and the layers above it in this list. A test holds that, and that this map names exactly the files there are.

layer 0  core          what everything stands on
    core/files.py               files that are whole or not there
    core/locks.py               one process at a time, and let go of however that one ends
    core/json_lines.py          files that only grow, a line at a time, and lose nothing
    core/settings.py            settings checked: the name, the value, the rule, a value that works
    core/modes.py               training or evaluation mode for a while, and back
    core/tensor_files.py        tensors on disk by name: safetensors, checked, never a program
    core/notation.py            the letters for axes, and the checker of their promises
    core/runtime.py             device, number format and seed, each with the reason for it

layer 1  text          where text comes from and how it becomes numbers
    text/village.py             Village: a generated little world whose every text has a known probability
    text/village_world.py       who lives there, and what is true: families, facts told often, rarely, never
    text/village_words.py       its words, in English and Chinese
    text/village_kinds.py       the forms of its people and things that a template may name
    text/village_tags.py        the part of speech of every word of its stories
    text/village_dirt.py        its texts as the web would have them, with the truth of what was planted
    text/gift_lists.py          lists of gifts in English and French: a translation with one right answer
    text/grammar.py             Grammar: one object that writes, reads and measures texts
    text/grammar_nodes.py       the parts of a compiled grammar
    text/grammar_templates.py   the notation in which the village's texts are written
    text/unambiguous.py         a proof that no text has two derivations
    text/dice.py                random draws that are the same on every machine
    text/stories.py             the course's own stories, in English and Chinese, sentence by sentence
    text/public_texts.py        texts of others: fetched once, checked by size and SHA-256, never half-written
    text/instructions.py        the village's tasks in words, with phrasings, material and whole tasks held out
    text/held_out.py            splits of translation pairs: known words in combinations that were never seen
    text/corpus.py              load_corpus: one door to every text, split by the hash of each document
    text/normalise.py           one spelling for one text: NFC, visible characters, spaces, quotes
    text/inert.py               text from strangers that steers no screen
    text/markup.py              from a page to its text: tags, scripts, comments, entities
    text/near_duplicates.py     MinHash and locality-sensitive hashing, with an error bound
    text/quality.py             ten features, a limit for each, and a reason in words
    text/noise.py               lines that no one wrote: signs, broken encodings, dumps
    text/boilerplate.py         lines that belong to the site: menus and footers
    text/personal_data.py       e-mail addresses, telephone numbers and identity numbers, masked
    text/mixture.py             mixing sources by weight, and how often each is then read
    text/cleaning.py            clean: the eight steps in a row, each with a record
    text/cleaning_scores.py     precision and recall of every step against planted dirt
    text/pretokens.py           text cut at special tokens and by GPT-2's pattern, also from a stream
    text/token_files.py         vocabularies on disk: JSON, and GPT-2's two files
    text/tokenizer.py           CharTokenizer, WordTokenizer: the two obvious ways to number text
    text/bpe_training.py        learning merges: the plain way, and the fast way with the same answer
    text/bpe.py                 BPETokenizer: bytes joined into tokens, no text unknown
    text/token_shards.py        token ids in files, mapped into memory, and windows of them in shuffled order

layer 1  rules         programs that talk by rules
    rules/script.py             the script that Eliza follows: text that anybody can write, checked line by line
    rules/eliza.py              Eliza: keywords, patterns and replies, with nothing understood
    rules/rulebook.py           a rule book: rules and facts as text that anybody can read, write and check
    rules/expert.py             an expert system: facts, rules that make new facts, and an answer to "why?"

layer 1  statistical   counting words
    statistical/information.py  entropy, cross-entropy, KL, perplexity and bits per character
    statistical/ngram_counts.py counting n-grams with sorted arrays
    statistical/smoothing.py    counts into probabilities: add-k, Jelinek-Mercer, Kneser-Ney
    statistical/arpa.py         n-gram models as ARPA files, in and out
    statistical/ngram.py        NGramModel: fit, score, sample
    statistical/sampling.py     sample_next: greedy, temperature, top-k, top-p, for every model
    statistical/metrics.py      accuracy and its interval, precision, recall, F1, BLEU
    statistical/classifiers.py  naive Bayes and logistic regression over counts of words
    statistical/hmm.py          HMM: forward-backward, Viterbi, Baum-Welch

layer 1  kernels       programs for a GPU, each beside its plain twin
    kernels/launch.py           Triton where it is installed, and a clear word where it is not
    kernels/rms_norm.py         RMSNorm: a row is read once and written once
    kernels/rope.py             RoPE: both halves turned in one go; the way back turns back
    kernels/cross_entropy.py    cross-entropy whose gradient is written over the logits; the head in pieces
    kernels/attention_tiles.py  tiles of queries and keys: who sees whom, and how large they are
    kernels/flash_attention.py  flash attention, there and back

layer 2  vectors       words as vectors
    vectors/word_vectors.py     WordVectors: neighbours, analogies, word2vec's text format
    vectors/vocabulary.py       words that occur often enough, and a text as their numbers
    vectors/cooccurrence.py     who stands near whom: sparse counts of pairs
    vectors/negative_sampling.py the loss and its gradient by hand, noise, subsampling
    vectors/blocks.py           the same gradients for many words: a window is a band in a matrix
    vectors/word2vec.py         Word2Vec: skip-gram and CBOW with negative sampling
    vectors/pmi.py              PMI, its factorisation, and what word2vec finds
    vectors/glove.py            GloVe: vectors whose products are logarithms of counts
    vectors/evaluation.py       analogies and neighbours against what is true

layer 2  neural        networks that predict the next token
    neural/language_model.py    LanguageModel: what all of them share; bits per character of held-out documents
    neural/batches.py           from documents to batches, drawn at random or in order
    neural/feedforward.py       FeedForwardLM: a window of words and one hidden layer
    neural/cells.py             RNN, LSTM and GRU written out
    neural/recurrent.py         RecurrentLM: a state carried from token to token
    neural/gradient_flow.py     how much of the gradient survives the way back
    neural/pairs.py             PairBatch: sources and targets, padded, with their lengths
    neural/pair_model.py        PairModel: what all encoder-decoders share: loss, translation
    neural/beam_search.py       beam_search: the few best sequences of any model that goes step by step
    neural/additive_attention.py AdditiveAttention: which place of the source fits what comes next
    neural/seq2seq.py           Seq2Seq: one network reads, another writes, with or without looking back

layer 2  attention     who looks at whom
    attention/dot_product.py    attend: scaled dot-product attention, written out and as one kernel
    attention/tiled.py          attend_tiled: a softmax that is mended as more keys are seen
    attention/masks.py          which query may look at which key: causal, padding, window, prefix
    attention/positions.py      where a token stands: sinusoidal, learned, RoPE, ALiBi
    attention/cache.py          KVCache, DecoderCache: a token that was read need not be read again
    attention/multihead.py      MultiHeadAttention: many heads, fewer for the keys if you like

layer 3  transformer   stacks of attention and MLP
    transformer/block.py        the residual block: LayerNorm, RMSNorm, GELU, SwiGLU, pre- and post-norm
    transformer/encoder_decoder.py EncoderDecoder: the machine of 2017, which translates
    transformer/encoder_batches.py texts in frames of special tokens, side by side; pairs that follow each other or not
    transformer/masking.py      what is hidden and what stands there instead: tokens, words, spans
    transformer/encoder.py      Encoder and MaskedLM: BERT, and ALBERT by configuration
    transformer/encoder_tasks.py TextClassifier and Tagger: labels for texts and for tokens
    transformer/objectives.py   holes to be filled by others: T5's spans, BART's infilling, GLM's blanks
    transformer/moe.py          MoE: experts in the place of the MLP, a router, and what keeps it in balance
    transformer/moe_dispatch.py tokens to experts and back: a loop, sorted pieces, grouped products; capacity
    transformer/decoder.py      Decoder: GPT-2 or Llama by configuration
    transformer/with_kernels.py use_kernels: the same decoder by the Triton kernels, a switch
    transformer/costs.py        parameters, operations and cache of a decoder, from its configuration
    transformer/packed.py       the same decoder, its matrices laid out for one token at a time
    transformer/graphs.py       decoding in fixed shapes, which a GPU records once and replays
    transformer/generate.py     generate and stream: cached, batched, with every way to stop
    transformer/speculative.py  a small model guesses, the large one checks: faster, same distribution
    transformer/layout.py       Layout: which tensor of a published checkpoint is which of ours
    transformer/layouts_decoder.py GPT-2, Llama, Mistral and Mixtral as published
    transformer/layouts_bert.py BERT as published: trunk, pretraining, classes, tags
    transformer/hub.py          a named model of the hub, fetched once, data alone
    transformer/pretrained.py   load_pretrained, save_pretrained: published weights in and out

layer 4  training      one way to train every model
    training/loop.py            train and evaluate: one loop for every model
    training/optim.py           AdamW, and the schedules of the learning rate
    training/muon.py            Muon: hidden matrices move without favourite directions
    training/recipe.py          Recipe: a good small model in seconds, each ingredient with a switch
    training/hardware.py        what this machine can do: cores, compiler, peak rates, the measured roofline
    training/accelerate.py      accelerate: the same training, faster; every means a switch, every choice a reason
    training/profile.py         where the time goes: a trace in one call, tokens a second, MFU
    training/memory.py          what a step of training holds in memory, counted byte by byte
    training/state_tree.py      the state of a run as data: a plain tree, and tensors by name
    training/checkpoint.py      checkpoints: killed at any moment, a run goes on to the last bit
    training/token_batches.py   tokens on disk as batches on a device, whole or a process's share
    training/distributed.py     several processes: started, found, ended together
    training/sharding.py        one model over them: data, FSDP and tensor parallel, and back to whole tensors
    training/pipeline.py        its blocks shared out, micro-batches passing through
    training/pretrain_data.py   what a pretraining run reads and is judged by, made once
    training/pretrain_judge.py  bits per character, floor and counting, and a verdict in words
    training/pretrain.py        the command that pretrains, from a laptop's model to GPT-2's smallest

layer 5  adaptation    a model that was trained once is made to do something else
    adaptation/chat_template.py a conversation as one row of tokens that nobody can forge
    adaptation/sft.py           SFT: only the answer counts; examples packed without seeing each other
    adaptation/ask.py           what a chat model answers: prompts in, texts out
    adaptation/modules.py       modules by the pattern of their names: find, exchange, freeze
    adaptation/lora.py          LoRA: a change of low rank beside a frozen matrix, merged or not
    adaptation/lora_files.py    an adapter alone on disk, as the peft package writes it
    adaptation/adapters.py      bottlenecks, prefixes, learned prompts, biases alone
    adaptation/adapter_sizes.py how many parameters each method trains, by formula

layer 6  alignment     a model is made to do what people prefer
    alignment/preferences.py    judgements as lines in a file that loses nothing; agreement between raters
    alignment/labellers.py      simulated raters whose taste is known: noise, slips, habits, and the Bayes limit
    alignment/bradley_terry.py  scores from comparisons by Newton's method, with error bars; when there are none
    alignment/reward.py         RewardModel: one number for an answer, on any decoder trunk
    alignment/chats.py          judgements about answers within a conversation, read through a chat template
    alignment/responses.py      prompts and responses side by side, and the log-probability of every token
    alignment/advantage.py      GAE: how much better a token turned out than was expected
    alignment/critic.py         the critic: a second reader that guesses how a text will end
    alignment/experience.py     a rollout and all that was known of it when it was written
    alignment/ppo_config.py     PPOConfig: what a run of PPO may decide
    alignment/ppo_record.py     what an update did, in plain numbers
    alignment/ppo.py            PPO: thirty details, each numbered, cited and tested
    alignment/laboratory.py     a world so small that the best policy is known exactly
    alignment/tabular.py        policies for it: a table, and a small GPT that was taught
    alignment/dpo.py            DPO: the policy as its own reward model, trained on comparisons directly
    alignment/grpo.py           GRPO and RLOO: no critic, each answer judged by what the others earned

layer 7  chat          whatever was built can be talked to
    speaker.py                  Speaker: what all have that can be talked to
    speakers.py                 Eliza, an n-gram, a network that goes on, one that answers, the best of its answers
    speaker_files.py            speakers on disk: whole, versioned, never a program
    history.py                  a conversation on disk, a line for each thing that happens
    conversation.py             Conversation: questions, answers, judgements; what a like means
    chat.py                     the conversation in a terminal

layer 8  course        what turns the library into a course
    course/checks.py            check: an answer goes in, "correct" or the first broken property comes out
    course/timeline.py          seventy years as data, each event with its source
    course/figures_base.py      Figure and Drawing: a picture with its text alternative
    course/figures.py           line, bar, heat, scatter and timeline charts
    course/widgets.py           Explorer: a picture that answers to sliders, with a still twin
    course/checks_00.py         checks of chapter 00: bits
    course/widgets_00.py        TimelineExplorer: an era at a time
    course/checks_01.py         checks of chapter 01: patterns, persons, kinship, a script
    course/widgets_01.py        ListenerExplorer: Eliza at work on a sentence; the cards of the blind test
    course/checks_02.py         checks of chapter 02: counts, continuation, discounts, a model
    course/widgets_02.py        the explorer of chapter 02: order, smoothing and amount of text
    course/checks_03.py         checks of chapter 03: merging, cutting, streaming, sharing a vocabulary
    course/widgets_03.py        the widget of chapter 03: where BPE cuts a sentence
    course/checks_04.py         checks of chapter 04: PPMI, analogies, a step of negative sampling, short vectors
    course/widgets_04.py        the widget of chapter 04: an analogy as a parallelogram
    course/checks_05.py         checks of chapter 05: windows, the way back through time, memory and gates
    course/widgets_05.py        the explorer of chapter 05: what is left of the gradient, step by step back
    course/checks_06.py         checks of chapter 06: masks, distances, heads, short cuts
    course/widgets_06.py        the widget of chapter 06: who looks at whom
    course/dictionary.py        a dictionary of the village, and translation word by word
    course/checks_07.py         checks of chapter 07: brevity, smoothing, a count, a stack with bugs, rules
    course/widgets_07.py        the widget of chapter 07: what each head reads while a sentence is translated
    course/checks_08.py         checks of chapter 08: hidden tokens, F1, spans, padding, sixteen labels
    course/widgets_08.py        the explorer of chapter 08: hide a word, see the guesses and where they come from
    course/checks_09.py         checks of chapter 09: targets, the nucleus, a cache's reads, a leak, a small budget
    course/widgets_09.py        the explorer of chapter 09: one next word under temperature, top-k and top-p
    course/tiny_decoder.py      a decoder made by a recipe: how the open exercise of chapter 10 is judged
    course/checks_10.py         checks of chapter 10: a turn, a merged softmax, a cache, shared keys, a recipe
    course/widgets_10.py        the explorer of chapter 10: RoPE's score against distance
    course/checks_12.py         checks of chapter 12: a roofline, bytes counted, a number rounded, a gradient, tiles
    course/widgets_12.py        the explorer of chapter 12: a block under the roofline of any machine
    course/mixed_reading.py     readers of five kinds of text, dense or with experts: what chapter 14 trains
    course/checks_14.py         checks of chapter 14: a router, sizes, who is turned away, a bias, a balance
    course/widgets_14.py        the explorer of chapter 14: which expert reads what, while the router learns
    course/checks_16.py         checks of chapter 16: what counts, a packed row, an interval, forged turns
    course/widgets_16.py        the explorer of chapter 16: a conversation, what counts, and what is answered
    course/village_exam.py      a base that knows the village and does not answer; lessons and an exam
    course/checks_17.py         checks of chapter 17: a layer, its gradients, merging, a prefix, ranks under a budget
    course/widgets_17.py        the explorer of chapter 17: a change and the directions that a rank keeps
    course/story_endings.py     Writer: a small GPT that ends stories, and raters whose taste in endings is known
    course/preference_desk.py   Desk: a person judges, and a killed kernel loses nothing
    course/widgets_preferences.py PreferenceDesk: two answers, click the better one
    course/checks_19.py         checks of chapter 19: a loss, ties, a ceiling, the last token, length taken out
    course/widgets_19.py        the explorer of chapter 19: scores from comparisons, with error bars, beside the truth
    course/stored_results.py    results that are too slow for a chapter: made by a command, stored, shown
    course/abstention.py        does a model know what it does not know: a registry, a reward for silence
    course/story_alignment.py   where PPO on story endings must land, from samples of the reference, and where it lands
    course/dashboard.py         Dashboard: a run of PPO while it runs, in twelve panels or a table
    course/checks_20.py         checks of chapter 20: the best policy, GAE, silence, two bugs in the rewards, a budget
    course/progress.py          progress: one line for notebooks and terminals
    course/live.py              LivePlot: the loss while it trains, as a figure or a bar
    course/widgets_20.py        the explorer of chapter 20: the exact optimum of the laboratory at every price
    course/learned.py           which exercises a learner has solved, noted by check and shown in notebook 00
    course/places.py            where the course lies on this machine
    course/partners.py          who can be talked to on this machine, and minillm chat
    course/widgets_chat.py      ChatPage: the conversation in a notebook
    course/kernel.py            the kernel python3 is always this very Python
    course/notebooks.py         notebook files: one shape, and a run from the first cell to the last
    course/authoring.py         exercises from solutions; normalise and run notebooks
    course/grading_wire.py      plain data over a pipe, and nothing that executes
    course/grading_sandbox.py   what a submission may not do, held by the operating system
    course/grading_folder.py    the empty folder of a submission: what lies in it, and how it is removed
    course/grading_answers.py   the process that runs a learner's code
    course/grading_desk.py      the examiner's end: asks that process, stops it in time
    course/grading_examiner.py  the process that holds the tests
    course/grading.py           points for one submission, without nbgrader
    course/gradebook.py         minillm grade: a whole class, as a table, CSV and pages of feedback
    course/lab.py               minillm lab: JupyterLab on the first chapter
    course/doctor.py            minillm doctor: what to mend on this machine, and how
    course/tour_config.py       TourConfig: the decisions of the tour, and which stages a change reaches
    course/tour_text.py         what all its stages read and are asked: one village, lessons, an exam
    course/tour_exam.py         right, silent or invented, with intervals; the floor of the nearest example
    course/tour_folder.py       stages on disk: whole, or not there, or on their way
    course/tour_aside.py        two stages on another core meanwhile
    course/tour_bench.py        the bench where a stage is made: training that can be killed, seconds over all lives
    course/tour_models.py       the five that go on with texts: Eliza, n-grams, window, LSTM, GPT
    course/tour_sft.py          the one that answers, and invents
    course/tour_clicks.py       your own comparisons, part to learn from, part to check
    course/tour_reward.py       the reward model, and the best of n by it
    course/tour_ppo.py          the aligned one, with a forecast of where it must land
    course/tour_table.py        one row for each stage, each with a verdict against a stated baseline
    course/tour_figure.py       the title figure: one line across history
    course/tour.py              minillm tour: all stages in order, resumed where they were
    course/capstone.py          what chapter 26 adds: which numbers moved, who says what, a reader who cannot check
    course/abstaining.py        where a reward for silence leads, in closed form
    course/checks_26.py         checks of chapter 26: a verdict, what a change reaches, a row, a decision
    course/widgets_26.py        the explorer of chapter 26: what a wrong answer costs, and where a model falls silent
    course/cli.py               the command line: minillm lab, progress, doctor, grade, tour, chat, author
    __main__.py                 python -m minillm, the same
"""

__version__ = "0.1.0"
