"""Common given names and surnames of ten countries, in lower case; those that are words, places or diseases too are left out."""

from __future__ import annotations

from medrecipes.release.personal_data.rule import bag

GIVEN = bag("""
    aaron abby abigail abraham adam adrian agnes aidan aisha alan albert alec alejandra alexa alexander alexandra
    alfie alfred ali alice alicia alison allan allison alvin amanda amelia amy ana andre andrea andrew angela angelica
    angus anita ann anna anne annette annie anthony antonia antonio archie arnold arthur arturo ashley audrey barbara
    barry beatrice becky belinda benjamin bernadette bernard bernice bertha bessie beth bethany betsy betty beverly
    billy blanche bob bobby bonnie brad bradley brandon brenda brendan brent brett brian bridget brittany bronwen
    bruce bryan caitlin callum calvin cameron carl carla carlos carmen carol caroline carolyn carrie casey cassandra
    catherine cathy cecilia cedric celia chad charlene charles charlie charlotte chelsea cheryl chloe chris christina
    christine christopher christy cindy claire clara clarence claude claudia clayton clifford clint clive clyde cody
    colin colleen connie connor constance corey cory courtney craig curtis cynthia daisy damian damien dan dana daniel
    danielle danny darlene darrell darren dave david dawn dean debbie deborah debra declan deirdre delia denise dennis
    derek derrick desmond diana diane dianne dolores dominic don donald donna dora doreen doris dorothy doug douglas
    duane duncan dustin dwayne dwight dylan earl eddie edgar edith edmund edna eduardo edward edwin eileen elaine
    eleanor elena eli elias elijah elisa elisabeth eliza elizabeth ella ellen ellie elmer eloise elsa elsie elvira
    emily emma enrique eric erica erik erika erin ernest esther ethan ethel eugene eunice eva evan evelyn ewan ezra
    felicia felix fergus fernando finlay fiona florence floyd frances francesca francine francisco fred freddie
    frederick freya gabriel gabriela gabrielle gail gareth garrett gary gavin gemma geoffrey george georgina gerald
    geraldine gerard gertrude gilbert gina gladys glen glenda glenn glenys gloria gordon graham greg gregory greta
    gretchen guillermo gwen gwendolyn hamish hannah hans harold harriet harry harvey hattie hayley hazel heather
    hector heidi helen helena henrietta henry herbert herman hilary hilda holly howard hubert hugh hugo humphrey ian
    ida imogen ingrid irene irma irving isaac isabel isabella isla isobel ivan jack jackie jacob jacqueline jaime jake
    james jamie jan jane janet janice janine jared jasmine jason javier jay jean jeanette jeanne jeff jeffrey jenna
    jennie jennifer jenny jeremy jerome jerry jesse jessica jessie jill jim jimmy joan joann joanna joanne jodie joe
    joel joey johanna john johnny jon jonathan jorge jose joseph josephine josh joshua joyce juan juana juanita judith
    judy julia julian julie juliet june justin justine karen karl kate katherine kathleen kathryn kathy katie katrina
    kay kayla keith kelly kelsey ken kenneth kenny kerry kevin kim kimberly kirk kirsten kirsty kristen kristin
    kristina kurt kyle lara larry laura lauren laurence laurie lawrence leah leanne leila lena leo leon leonard leroy
    leslie lester lewis liam lillian linda lindsay lindsey lisa lloyd logan lois lola lonnie lora loretta lori lorna
    lorraine louis louise lucas lucia lucille lucy luis luke lydia lynn mabel mackenzie maggie maisie malcolm mandy
    manuel marc marcia marcus margaret margarita margot maria marian marianne marie marilyn marina mario marion
    marjorie marlene marsha marshall martha martin marvin mary matilda matt matthew maureen maurice mavis maxine megan
    mel melanie melinda melissa melvin mercedes meredith michael michelle miguel mike mildred milton minnie miranda
    miriam moira molly mona monica morgan moses muhammad mohammed mohamed ahmed fatima hassan hussein omar yusuf
    ibrahim khadija zainab myra myrtle nadia nancy naomi natalia natalie natasha nathan nathaniel neil nell nelson
    nettie niamh nicholas nicola nicole nigel nina noah noel nora norma norman olga oliver olivia ollie oscar owen
    pamela patricia patrick patsy patty paul paula pauline peggy penelope percy perry peter phil philip phillip phoebe
    phyllis preston priscilla quentin rachel rafael ralph ramon ramona randall randy raquel raul raymond rebecca
    reggie reginald rene renee rhonda rhys ricardo richard rick ricky rita rob robert roberta roberto rochelle
    roderick rodney roger roland ron ronald ronnie rosa rosalie rosalind rosemarie rosemary rosie ross rowena roxanne
    roy ruben rudolph rufus rupert russell ruth ryan sabrina sadie sally salvador sam samantha samuel sandra sandy
    sara sarah saul scott sean sergio seth shane shannon sharon shaun shawn sheila shelley sherri sherry shirley
    sidney silvia simon siobhan sofia sonia sonya sophia sophie stacey stacy stanley stella stephanie stephen steve
    steven stewart stuart sue susan susanna susie suzanne sylvia tabitha tamara tammy tanya tara ted terence teresa
    teri terrance terrence terri terry thelma theo theodore theresa thomas tiffany tim timothy tina toby todd tom
    tommy toni tony tracey traci tracy travis trevor tricia tristan troy tyler tyrone ursula valerie vanessa vera
    vernon veronica vicki vicky vincent viola violet vivian vivien vivienne wade wallace walt walter wanda warren
    wayne wendy wesley whitney wilbur wilfred willard william willie willis wilma winifred yolanda yvette yvonne
    zachary zoe amina kwame ngozi chioma oluwaseun abdul abdullah aminata

    jeffery tonya haley rachael marissa brittney brandi alyssa deanna carly devin kendra kristie shelly jeremiah kelli
    kaylee cheyenne candace jonathon kristopher breanna meghan caleb brianna johnathan colton cassie micheal sheryl
    jasmin candice jody kayleigh graeme jemma lynne garry elliott elliot beverley kieran gillian martyn lesley katy
    kimberley iain mohammad jayne hollie ashleigh carole conor lynda antony mathew abbie reece aimee sian bethan kirk
    latoya keisha tamika malik deshawn jamal darnell ebony alma adriana alejandra bobbie doyle edwina elvis erika fay
    freda gwyneth jolene josie kerri lacey leroy lucinda marcy marisol nadine odessa raelene rosalyn roslyn saundra
    shauna tia trudy fabian claus annelise amalie anneliese sina konstanze frederike ottilie roswitha irmtraud
    engelbert hinrich patrik artur bastian finn emil mats lina mia lea lena jule nele luis mehmet mustafa ayşe ayse
    fatma emine murat hasan hüseyin zeynep yasemin hülya aysel jules augustin joséphine antoinette théodore adèle
    adrienne noël maryse thibaut rachid karim samira mamadou adelina ofelia horacio eladio genoveva feliciano máximo
    ariadna adán román benita vicenta baltasar chus nazaret martino amalia simonetta tullio dante sebastiano adele
    graziano ignazio antonina livio leopoldo gianna gianpaolo piergiorgio pierina ubaldo virginio heloisa davi bento
    isabelly maitê manuella alana luísa emilly calebe thales rebeca benício benjamim ravi kaique enzo valentim theo
    jorge ivone irene hardik riya gautam hitesh brijesh aradhana neel aayush diya prisha advaith maya qasim leela
    vinaya amruta sai upasna rachita abha ishwar vaishnavi nirav jayant mangesh ryohei sotaro tsubasa shohei jun
    kyosuke mikako hanako rika yui tomoya atsushi akemi yumeko jiro saburo ichiko kazue masae

    achim alexander alfons andreas angelika anja anke annegret annelie annemarie antje armin arne arnd astrid axel
    bärbel bastian beate bernd bernhard bettina bianca björn birgit birgitta brigitte britta burkhard carina carsten
    christa christel christiane christoph cornelia dagmar detlef detlev dieter dietmar dietrich dirk dominik doreen
    eberhard eckhard edeltraud egon elfriede elisabeth elke elmar erich erna ernst erwin eva evelin ewald felix
    ferdinand florian frauke franz franziska friederike friedhelm friedrich fritz gabriele georg gerd gerda gerhard
    gernot gisela gottfried götz gudrun günter günther guido gunnar hannelore hanna hannes harald hartmut hedwig heike
    heiko heiner heinrich heinz helga helge hella helmut henning henrik herbert hermann hertha hildegard hiltrud
    holger horst ilse imke inge ingeborg ingo inka irmgard isolde jakob janina jens joachim jochen johann johannes
    jonas jörg jörn josef judith jürgen jutta kai karin karla karlheinz karola karsten käthe katharina kathrin katja
    katrin kerstin klara klaus konrad konstantin lars leonie lieselotte lothar lotte luca ludwig luise lukas lutz
    magdalena maike malte manfred mareike margarete margit margret marianne markus marlies marten mathias mathilde
    matthias maximilian mechthild meike michaela mirjam monika moritz nadine nico niklas nikolaus nils norbert olaf
    ole oskar oswald otto paula petra philipp rainer ralf reiner reinhard reinhold renate roland rolf rosemarie rosi
    rüdiger rudi rudolf sabine sandra saskia sebastian siegfried sieglinde sigrid silke silvia simone sonja stefan
    stefanie steffen steffi susanne sven swantje svenja sylke tanja thilo thorsten tobias torben torsten traute trude
    udo ulf uli ulrich ulrike ursel ute uwe verena viktor viktoria volker walburga waltraud werner wilfried wilhelm
    willi winfried wolfgang wolfram

    achille adeline adrien agathe agnès aimée alain alban albane alexandre alexis alice aline alix alphonse amandine
    amélie anaïs andré andrée angélique annick antoine apolline ariane armand armelle arnaud arthur aubin aude aurélie
    aurélien aurore axelle barnabé bastien baptiste benoît bérénice bernadette bertrand blandine boris brice brigitte
    bruno camille capucine carine caroline cécile cédric céline chantal charline christelle christian christiane
    christophe claire clarisse claudette claudine clémence clément clotilde colette constant coralie corentin corinne
    cyril cyrille damien danièle daniel delphine denis désiré didier dimitri dominique dorothée édith édouard éléonore
    eliane élisabeth élise élodie éloïse émeline émile émilie emmanuel emmanuelle enzo éric estelle esteban étienne
    eugénie évelyne fabien fabienne fabrice fanny félicie fernand florent florian franck franço françois françoise
    frédéric frédérique gaël gaëlle gaétan gaspard gaston gauthier geneviève geoffroy georges georgette géraldine
    gérald gérard germaine ghislain ghislaine gilbert gilles ginette gisèle grégoire grégory guillaume gustave guy
    gwenaëlle hadrien hélène henri henriette hervé honoré hortense hubert hugues huguette inès irénée isabelle jacky
    jacques jacqueline jean-claude jean-luc jean-marc jean-paul jean-pierre jeanne jeannine jérémie jérémy jérôme joël
    joëlle jocelyne josette josiane julien juliette justine karine laetitia laure laurence laurent léa léon léonie
    lionel lise loïc louis louise luc lucie lucien lucienne ludivine ludovic madeleine maëlle maëlys manon marc marcel
    marcelle margaux marguerite marion marine marius marthe martine mathéo mathieu mathilde mathis matthieu maud
    maxence maxime mélanie mélissa michel michèle micheline mireille monique muriel myriam nadège nathalie nicolas
    ninon noémie noëlle océane odette odile olivier ophélie pascal pascale patrice paulette perrine philippe
    philippine pierre pierrette quentin raphaël raymonde rémi rémy rené renée robin rodolphe rodrigue romain romane
    roseline sandrine sébastien séverine serge simone solange solène sophie stéphane stéphanie suzanne sylvain
    sylvaine sylvie théo théophile thérèse thibault thierry timothée tristan valentin valentine valérie valéry
    véronique victoire virginie xavier yann yannick yves yvon yvonne zoé

    adela adolfo adrián agustín aitana aitor alba alberto alejandro alfonso alfredo almudena álvaro amparo ana andrés
    ángela ángeles anselmo antonio aránzazu araceli arantxa armando arturo asunción aurelio beatriz begoña benito
    bernardo blas borja candela carlota carmela carolina cayetano celestino celia césar clemente concepción conchita
    consuelo cristina cristóbal damián daniela débora demetrio diego dolores domingo eduardo efraín elena elías eloy
    elvira emiliano emilio encarnación enrique ernesto esperanza esteban estefanía esther eugenio eusebio eva ezequiel
    fabián faustino federico felipe fermín fernanda fernando fidel florencia francisca francisco gael germán gerardo
    gilberto gonzalo graciela gregorio guadalupe guillermo gustavo héctor hernán hilario hortensia ignacio iker inés
    inmaculada irene isabel isidro iván jacinta jacinto jaime javier jimena jesús joaquín jordi jorge josé josefa
    josefina juan julián julio lázaro leandro leire leonor leticia lidia lorena lorenzo lourdes lucía luis luisa
    macarena magdalena manuel manuela marcela marcelo marcos margarita maría mariana mariano maribel mario marisa
    marisol marta martín mateo mercedes miguel milagros miriam mónica montserrat natividad nicolás nieves noelia
    norberto nuria octavio olga óscar pablo paloma paola patricia paz pedro pilar purificación rafael ramiro ramón
    raquel raúl remedios ricardo roberto rocío rodolfo rodrigo rogelio rosario rubén salvador samuel santiago sara
    saúl sebastián sergio silvia socorro sofía soledad susana teodoro teresa tomás trinidad valeria vanesa vicente
    violeta virgilio víctor xavi ximena yolanda

    achille agnese alba alberto aldo alessandra alessandro alessia alessio alfio alfredo amedeo andrea angela angelo
    anna annalisa annamaria antonella antonietta antonio arianna attilio aurora beatrice benedetta beniamino biagio
    bianca bruna bruno camilla carla carlo carlotta carmela carmelo carmine caterina cecilia cesare chiara cinzia
    claudia claudio concetta cosimo cristian cristiano cristina damiano daniela daniele dario davide debora domenica
    domenico donatella donato edoardo elena eleonora elisa elisabetta elena emanuela emanuele emilia enrica enrico
    enzo erica ermanno ernesto ettore eugenia ezio fabiana fabio fabrizio federica federico felice ferdinando filippo
    fiorella flavia flavio franca francesca francesco franco gabriele gaetano gaia gaspare gennaro giacomo giada gian
    giampaolo giancarlo gianfranco gianluca gianluigi gianmarco gianni giorgia giorgio giovanna giovanni girolamo
    gioele giulia giuliana giuliano giulio giuseppe giuseppina grazia graziella gregorio greta guglielmo guido ilaria
    ida immacolata irene isabella ivano jacopo laura leonardo letizia lidia liliana livia lorena lorenzo loredana luca
    lucia luciano lucrezia luigi luigia luisa maddalena manuela marcello marco margherita mariangela mariagrazia
    mariella marina marisa marta martina massimiliano massimo matilde matteo mattia maurizio mauro melissa michela
    michele mirella miriam mirko monica nadia nicola nicoletta nicolò noemi nunzia oreste ornella orazio palmira paola
    paolo pasquale patrizia piera pierluigi piero pietro raffaele raffaella raffaello renata renato renzo riccardo
    rita roberta roberto rocco romano romeo rosanna rosaria rosario rossana rossella ruggero sabrina salvatore samuele
    sandra sandro santina santo saverio serena sergio silvana silvano silvia silvio simona simone sonia stefania
    stefano susanna tania tiziana tiziano tommaso ugo umberto valentina valeria valerio vincenza vincenzo viola vito
    vittoria vittorio walter

    abigail adalberto ademar adilson adriana adriano afonso aguinaldo ailton alessandra aline altair amanda amauri
    anderson andreia ângela antônia antônio aparecida ariane arlindo augusto bárbara beatriz benedita bernardo breno
    bruna caio camila carla cássia cássio cauã celso cibele cícero cíntia clarice cláudia cláudio cleber cleide cleusa
    cristiane daiane dalva danilo débora denilson diogo dirceu edilson edmilson edna edson eduarda eliana eliane elza
    emanuel emília enzo erivaldo évelin everton fabiana fábio felipe fernanda flávia flávio francisca gabriela
    genivaldo geraldo gilberto gilson giovana gisele giulia guilherme gustavo heitor helder helena heloísa henrique
    hugo igor inês iracema isadora isabela isaías ivone jacira jair jandira jéssica joana joão joaquim jonas jorge
    josé joseane joyce júlia juliana júlio juliano juraci jussara kauê laís larissa leandro leila leonardo letícia
    lívia lorena luan luana lucas lúcia luciana luciano lucimar luiz luiza luzia maicon manuela marcela marcelo márcia
    márcio marcos maria mariana marlene marli mateus matheus maurício mauro mayara michele milena milton miriam moacir
    mônica murilo nair natália neide nelson neusa nilson nilton odete osmar osvaldo otávio paloma patrícia paulo pedro
    pietra priscila quitéria rafael rafaela raimunda raimundo raíssa regina reginaldo renan renata renato ricardo rita
    roberta roberto rodrigo rogério ronaldo rosana rosângela roseli rosilene rute sabrina samara sandra sebastião
    sérgio severino sheila silvana silvia simone solange sônia sueli suzana taís tainá tatiana tatiane telma teresinha
    thaís thiago tiago valdir valéria valmir vanessa vânia vera vicente vinícius vitor vitória wagner waldemar wallace
    wanderley washington wellington wesley william yasmin yuri zilda zélia

    aiko akihiro akiko akio akira asami asuka aya ayaka ayako ayumi chiaki chieko chihiro chiyo daiki daisuke emi eiji
    eriko etsuko fumiko fumio goro hajime haruka haruki haruko haruto hideaki hideki hideko hideo hikaru hina hiroaki
    hiroki hiroko hiromi hiroshi hiroto hiroyuki hisako hitomi hitoshi ichiro isamu itsuki junichi junko kaito kana
    kaori kaoru katsumi katsuo kazuhiro kazuki kazuko kazumi kazuo kazuya keiichi keiji keiko keisuke kenichi kenji
    kenta kentaro kimiko kiyoko kiyoshi koichi koji kosuke kota kumiko kyoko mai maki makoto mako mamoru manabu mariko
    masaaki masahiro masaki masako masami masanori masao masaru masashi masato masayuki mayumi mayuko megumi michiko
    mieko mika miki mikio minako minoru misaki mitsuko mitsuru miyuki mizuki momoko nana nanami naoki naoko naomi
    naoto natsuki natsumi noboru nobuko nobuo nobuyuki noriko norio osamu reiko rie riku rina rumi ryo ryoichi ryoko
    ryosuke ryota sachiko saki sakura satoko satomi satoru satoshi sayaka sayuri seiichi seiji setsuko shigeko shigeo
    shigeru shinichi shinji shizuko shigeki shinya sho shoichi shoji shota shunsuke sota sumiko susumu tadao tadashi
    taichi takahiro takako takao takashi takayuki takeo takeshi takuma takumi takuya tamiko taro tatsuo tatsuya teruo
    tetsuo tetsuya tomohiro tomoko tomomi toru toshiaki toshiko toshio toyoko tsuneo tsutomu tsuyoshi yasuhiro yasuko
    yasuo yoichi yoko yosuke yoshiaki yoshie yoshihiro yoshiko yoshio yoshiro yuichi yuji yuka yukari yuki yukiko
    yukio yuko yumi yumiko yuri yusuke yuta yutaka yuto

    aarav aarti abhay abhijit abhinav abhishek aditi aditya ajay ajit akash akhil akshay alka aman amar amit amita
    amitabh amol amrita anand ananya anil anish anita anjali anju ankit ankita anshul anuj anupam anuradha anushka
    aparna archana arjun arti arun aruna arvind asha ashish ashok ashwin atul avinash ayush babita balaji bharat
    bharati bhaskar bhavna bhavesh bhupendra bijay bimal bindu chandan chandra chandrashekhar charu chetan chitra
    damini darshan deepa deepak deepika devendra devika dhananjay dharmendra dhruv dilip dinesh dipak divya durga ekta
    farhan firoz ganesh gaurav gayatri geeta gita girish gopal gopinath govind gulshan gurpreet guru hari harish
    haritha harpreet harsh harsha hema hemant himanshu indira ishaan jagdish jaspreet jatin jaya jayanti jayesh
    jignesh jitendra jyoti kajal kalpana kamal kamala kamlesh kanchan karan karthik kartik kashish kaveri kavita
    kavitha keshav khushi kiran kishore komal krishna kumari kunal kusum lakshman lakshmi lalit lalita lata laxman
    laxmi lokesh madan madhav madhavi madhu madhuri mahendra mahesh mala malati mallika mamta manish manisha manju
    manjula manoj mansi meena meenakshi meera megha mihir milind mohan mohini mohit mukesh murali nagaraj naina
    namrata nandini narayan narendra naresh naveen neelam neeraj neeta neha nidhi nikhil nikita nilesh nirmala nisha
    nitin nitish om padma padmini pallavi pankaj parth parul parvati pavan payal pooja prabhakar prachi pradeep pradip
    prakash pramod pranav prashant pratibha pratik praveen preeti prem prerna preethi priti priya priyanka puja pushpa
    rachna radha radhika raghav raghu rahul raj raja rajan rajani rajashree rajeev rajendra rajesh rajeshwari rajiv
    rajkumar rakesh raksha ram raman ramesh rameshwar rani ranjana ranjit rashmi ravi ravindra reena rekha renu reshma
    ritesh ritika ritu rohan rohini rohit roopa ruchi rupa rupali sachin sagar sahil sameer sandeep sandhya sangeeta
    sanjana sanjay sanjeev sanjiv santosh sarita sarika saroj satish satya saurabh savita seema shailesh shakuntala
    shalini shanta shanti sharad sharmila shashi shashank sheela shikha shilpa shivam shivani shreya shruti shubham
    shweta shyam siddharth simran sita smita sneha soham sonal sonali sowmya sridhar srinivas sriram subhash sudha
    sudhir sujata sukhwinder suman sumit sunanda sundar sunil sunita suraj surendra suresh surya sushil sushila sushma
    swapna swati tanvi tarun tejas tulsi tushar uday ujjwal uma umesh usha utkarsh vaibhav vaishali vandana varsha
    varun vasant vasudha veena venkat venkatesh vibha vidya vijay vijaya vikas vikram vimal vimala vinay vineet vinita
    vinod vipul viraj vishal vishnu vivek yash yashoda yashwant yogesh yogita zakir zoya animesh anusuya imran irfan
    salman sajid shabana shahid nasreen parveen rukhsana tahir wasim yasmeen zeenat
""")
SURNAMES = bag("""
    smith johnson williams jones brown davis miller wilson anderson taylor thomas jackson thompson martinez robinson
    clark rodriguez lewis walker allen hernandez wright lopez scott adams gonzalez carter mitchell perez roberts
    turner phillips campbell parker evans edwards collins stewart sanchez morris rogers reed cook morgan murphy bailey
    rivera cooper richardson cox howard ward torres peterson ramirez brooks kelly sanders bennett barnes ross
    henderson coleman jenkins perry patterson hughes washington butler simmons foster gonzales bryant alexander
    russell griffin diaz hayes myers hamilton graham sullivan wallace woods cole owens reynolds fisher ellis harrison
    gibson mcdonald cruz marshall ortiz gomez murray freeman wells simpson stevens tucker porter hicks crawford henry
    boyd mason morales kennedy warren dixon ramos reyes burns gordon shaw holmes rice robertson hawkins ferguson rose
    harper o'brien o'connor o'neill macdonald davies griffiths patel khan ahmed hussain begum lloyd rees hargreaves
    whittaker rourke hendricks whitfield marlow tomlinson price tran nguyen le pham vo kim park choi hughes obrien
    oconnor murray doyle walsh byrne ryan collins kavanagh mccarthy gallagher doherty kennedy lynch quinn mckenzie
    mackenzie maclean fraser sinclair buchanan cunningham ferguson drummond elliott palmer connolly giles atkinson
    barker barrett bates baxter bennet bird booth bradley brennan burgess burton byrd cameron carr carroll chambers
    chandler chapman clarke coates conway cooke craig curry curtis dalton daniels davidson dawson dean dennis dickson
    dunn duncan dyer erickson everett farrell fitzgerald fleming fletcher flores fowler fox francis frank franklin
    freeman frost fuller gallego gardner garrett gibbs gilbert goodwin graves greene greer gregory griffith hale
    hanson hardy harmon harrington hart harvey haynes higgins hines hodges hogan holland holt hoover hopkins horton
    houston howell hubbard hudson hunt hunter ingram jacobs jennings jensen johnston keith keller kemp kent kerr klein
    knight lambert larson lawrence lawson lester lindsey little logan lowe lucas lyons mack malone mann manning marsh
    massey mathis mccoy mcdaniel mcgee mckinney mclaughlin meyer moody moon morrison morrow moss mueller mullen myers
    nash neal newman newton nichols nicholson nielsen noble norman norris norton oliver olson osborne page parsons
    patrick payne pearson peck perkins peters pierce poole pope porter potter powell powers pratt preston quinn ramsey
    randall reeves rhodes richards riley robbins robles rojas rowe ryan salazar santiago saunders sawyer schmidt
    schneider schroeder schultz schwartz sharp shelton shepherd sherman silva simon simpson skinner snyder soto sparks
    spencer stanley steele stephens stevenson stokes strickland summers sutton swanson tate thornton todd townsend
    trevino tyler underwood valdez vance vargas vasquez vaughn vega wade wagner walters walton warner watkins watson
    watts weaver webb webster weeks welch wheeler whitaker whitehead wiggins wilkerson wilkins wilkinson willis
    winters wolfe wong woodard woodward wyatt yates zimmerman pemberton blackwell cartwright ashworth müller schmidt
    schneider fischer weber meyer wagner becker schulz hoffmann schäfer koch bauer richter klein schröder neumann
    schwarz zimmermann braun krüger schreiber uhlmann lindemann sommer stein haas graf heinrich schreiner seidel
    brandt dietrich ziegler kuhn kühn pohl engel horn busch bergmann thomas voigt sauer arnold pfeiffer hofmann
    hartmann lange schmitt werner krause meier lehmann schmid schulze maier köhler herrmann könig walter mayer huber
    kaiser fuchs lang scholz möller weiß jung hahn schubert vogel friedrich keller günther berger winkler lorenz
    baumann franke albrecht martin bernard dubois durand leroy moreau simon laurent lefebvre michel garcia bertrand
    roux fournier morel girard andré mercier dupont lambert bonnet françois fontaine rousseau vincent muller faure
    blanc guerin boyer garnier chevalier gauthier legrand perrin morin dumont lacombe lefèvre roussel rey renard robin
    royer rolland caron meunier brun blanchard giraud joly rivière lucas brunet gaillard barbier arnaud roche roy noël
    meyer lemaire leroux colin vidal picard roger fabre aubert hubert garcía rodríguez gonzález fernández lópez
    martínez sánchez pérez gómez martín jiménez ruiz hernández díaz moreno muñoz álvarez romero alonso gutiérrez
    navarro domínguez vázquez ramírez gil ramos serrano molina morales suárez ortega delgado castro ortiz rubio marín
    sanz iglesias rossi russo ferrari esposito bianchi romano colombo ricci marino greco bruno gallo conti deluca
    costa giordano mancini rizzo lombardi moretti barbieri fontana santoro fabbri mariani rinaldi caruso ferrara galli
    martini leone longo gentile martinelli vitale lombardo serra coppola silva santos oliveira souza lima pereira
    ferreira alves ribeiro rodrigues carvalho gomes martins araújo araujo lopes almeida soares fernandes vieira
    barbosa rocha dias nascimento andrade moreira nunes marques machado mendes freitas cardoso teixeira cavalcanti
    camargo sato suzuki takahashi tanaka ito watanabe yamamoto nakamura kobayashi kato yoshida yamada sasaki yamaguchi
    matsumoto inoue kimura hayashi shimizu yamazaki mori abe ikeda hashimoto yamashita ishikawa nakajima maeda fujita
    ogawa goto okada hasegawa murakami kondo ishii saito sakamoto endo aoki wang li zhang liu chen yang huang zhao wu
    zhou xu sun ma zhu hu guo he lin gao luo zheng liang xie song tang deng feng xiao cheng cao peng zeng tian dong
    pan yuan jiang yu ye wei su ding ren shen yao lu fang shi sharma verma gupta singh kumar patel shah reddy rao nair
    iyer iyengar menon pillai das ghosh banerjee chatterjee mukherjee bose sen dutta roy mishra pandey tiwari dubey
    trivedi joshi desai mehta kapoor malhotra khanna chopra arora bhatia agarwal aggarwal jain goyal bansal yadav
    chauhan rathore saxena srivastava sinha thakur choudhary chaudhary naidu murthy hegde shetty kulkarni deshpande
    patil pawar shinde jadhav gaikwad kaur gill sandhu dhillon grewal qureshi ansari siddiqui shaikh sheikh
    venkataraman narayanan krishnan subramaniam raman
""")
# given names that are words, places or things too: names only before a common surname
WORDS_TOO = bag("""
    mark frank grace victor virginia victoria april june amber crystal faith hope joy jade dale lance max lee taylor
    jordan austin dakota madison georgia sydney brooke brandy destiny christian robin rose lily ruby pearl ivy iris
    olive basil grant miles chase bill will drew guy art ray penny ginger cherry summer autumn angel jesus alex ben
    levi mitchell allen bailey paige leigh francis rod pat dick rex gene duane marine martin marie kay jean jay kim
    kelly lou mercedes paris london chelsea sierra savannah
""")
# Chinese given names behind their surname, as Zhang Wei
ROMANISED = bag("""
    wei fang na min jing xiuying li qiang lei jun yang yong yan jie juan tao ming chao xiulan xia ping gang guiying
    xiuzhen hong hui jianguo jianjun zhiqiang xiaoming weiming xiaohong xiaoli haiyan lijuan yulan guilan meiling
    xinyi yuhan zihan haoran yifan junjie wenjie jiahao siyuan mingyu yuxin dan lili liping xiaoyan xiaomei yumei
    guizhen shufen shuzhen aiguo guoqiang zhiwei jinlong xiaodong xiaojun haitao hongmei chunhua dongmei ling ying hua
    bin bo
""")
